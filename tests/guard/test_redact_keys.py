"""Which names of fields say that a secret stands there. How the values are masked is in test_redactor."""

import pytest

from palyra_trio.guard.redact_keys import secret_kind


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("password", "password"),
        ("db_password_2", "password"),
        ("openaiApiKey", "api_key"),
        ("X-Api-Key", "api_key"),
        ("AWS_SECRET_ACCESS_KEY", "access_key"),
        ("cookies", "cookie"),
    ],
)
def test_a_name_tells_the_kind_of_its_secret(key: str, kind: str) -> None:
    assert secret_kind(key) == kind


@pytest.mark.parametrize("key", ["", "token", "max_tokens", "token_count", "password_policy", "secretary", "key"])
def test_a_name_that_only_sounds_like_one_tells_none(key: str) -> None:
    assert secret_kind(key) == ""
