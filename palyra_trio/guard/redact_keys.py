"""Names of fields that say that their value is a secret, such as `password` or `X-Api-Key`, and of which kind."""

import re

_SECRET_KEYS = (
    *("password", "passwd", "passphrase", "secret", "authorization", "cookie"),
    *("api key", "apikey", "access key", "account key", "secret key", "private key", "signing key", "encryption key"),
    *("access token", "refresh token", "auth token", "id token", "api token", "bearer token", "session token"),
    *("security token", "bot token", "secret token", "csrf token", "personal access token"),
)
# The words may follow others (`db_password`, `X-Api-Key`) and carry a number, but must end the key: `password_policy`,
# `token_count` and `next_page_token` name no secret.
_SECRET_KEY = re.compile(rf"(?:^| )({'|'.join(_SECRET_KEYS)})s?(?: ?[0-9]+)?$")
_WORD_EDGE = re.compile(r"[^A-Za-z0-9]+|(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def secret_kind(key: str) -> str:
    """Return the kind of secret that the value of `key` is by the key's name, or ""."""
    match = _SECRET_KEY.search(_WORD_EDGE.sub(" ", key).strip().lower())
    return match.group(1).replace(" ", "_") if match else ""
