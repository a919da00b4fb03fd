"""How a secret is named without being said: `KIND:NAME`, such as `vault:OPENAI` or `env:OPENAI_API_KEY`.

A configuration and a tool's arguments hold references, never secrets. What a reference stands for is found elsewhere.
"""

import re

import attrs

from palyra_trio.core.errors import InvalidArgument

SECRET_NAME_PATTERN = r"^[A-Za-z][A-Za-z0-9_.-]{0,63}\Z"
USE_PREFIX = "secret:"  # how a tool's argument names a secret of the vault
_USE = re.compile(rf"((?:[A-Za-z]+ )?){USE_PREFIX}(.*)", re.DOTALL)
_NAME_PATTERNS = {
    "env": r"^[A-Za-z_][A-Za-z0-9_]*\Z",
    "file": r"^/[^\0]*\Z",
    "keyring": r"^[^/\0]+/[^\0]+\Z",
    "vault": SECRET_NAME_PATTERN,
    "systemd-creds": r"^[A-Za-z0-9_.-]{1,255}\Z",
}
FORMS = "env:NAME, file:/PATH, keyring:SERVICE/USER, vault:NAME or systemd-creds:NAME"


@attrs.frozen
class Reference:
    """Where a key lies: `kind` is env, file, keyring, vault or systemd-creds, and `name` says which there."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


def parse_reference(text: str) -> Reference:
    """Return what `text` refers to. Raises InvalidArgument, without quoting the text: it may be a secret itself."""
    kind, _, name = text.partition(":")
    if kind not in _NAME_PATTERNS:
        raise InvalidArgument(
            "this is no reference to a secret, and the secret itself does not belong here", remedy=f"write {FORMS}"
        )
    if not re.search(_NAME_PATTERNS[kind], name) or name in {".", ".."}:
        raise InvalidArgument(f"what follows {kind}: is no name of such a place", remedy=f"write {FORMS}")
    return Reference(kind, name)


@attrs.frozen
class SecretReference:
    """A secret of the vault, as a tool's argument names it, and what stands before it there, such as `Bearer `."""

    name: str
    before: str = ""


def secret_in(text: str) -> SecretReference | None:
    """Return what `secret:NAME` or `SCHEME secret:NAME` refers to, None for any other text.

    Raises InvalidArgument for a name that no secret can have.
    """
    match = _USE.fullmatch(text)
    return SecretReference(check_secret_name(match[2]), match[1]) if match else None


def is_use(text: str) -> bool:
    """Return whether `text` is such a reference, and so says nothing that nobody may know."""
    match = _USE.fullmatch(text)
    return match is not None and re.search(SECRET_NAME_PATTERN, match[2]) is not None


def check_secret_name(name: str) -> str:
    """Return a name that a secret of the vault may have. Raises InvalidArgument."""
    if not re.search(SECRET_NAME_PATTERN, name):
        raise InvalidArgument(
            f"{name!r} cannot name a secret",
            remedy="begin with a letter; then letters, digits, _ . - follow, at most 63",
        )
    return name
