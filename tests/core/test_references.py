"""References name a secret; what could be a secret itself is refused without being quoted."""

import pytest

from palyra_trio.core.errors import InvalidArgument
from palyra_trio.core.references import (
    Reference,
    SecretReference,
    check_secret_name,
    is_use,
    parse_reference,
    secret_in,
)


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("env:OPENAI_API_KEY", Reference("env", "OPENAI_API_KEY")),
        ("file:/run/secrets/a key", Reference("file", "/run/secrets/a key")),
        ("keyring:openai/me@home", Reference("keyring", "openai/me@home")),
        ("vault:OPENAI", Reference("vault", "OPENAI")),
        ("systemd-creds:openai.key", Reference("systemd-creds", "openai.key")),
    ],
)
def test_a_reference_says_where_a_key_lies(text: str, reference: Reference) -> None:
    assert parse_reference(text) == reference
    assert str(reference) == text


@pytest.mark.parametrize(
    "text",
    [
        "", "hunter2hunter2", "sk-ant-hunter2hunter2", "env:", "env:hunter2-hunter2", "env:$hunter2", "file:hunter2",
        "file:relative/hunter2", "keyring:hunter2", "vault:hunter2 hunter2", "vault:../hunter2", "systemd-creds:..",
        "systemd-creds:a/hunter2", "https://hunter2", "VAULT:hunter2", "vault:hunter2\n",
    ],
)  # fmt: skip
def test_what_is_none_is_refused_and_not_quoted(text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_reference(text)
    assert "hunter2" not in str(caught.value)


def test_a_secret_has_a_plain_name() -> None:
    assert check_secret_name("OPENAI.key-2") == "OPENAI.key-2"
    for name in ("", "2nd", "a b", "a/b", "a" * 65, "näme", "a\n"):
        with pytest.raises(InvalidArgument):
            check_secret_name(name)


def test_an_argument_refers_to_a_secret_alone_or_behind_a_scheme() -> None:
    assert secret_in("secret:A") == SecretReference("A")
    assert secret_in("Bearer secret:A.b-2") == SecretReference("A.b-2", "Bearer ")
    assert is_use("secret:A")
    assert is_use("Bearer secret:A.b-2")
    for text in ("", "A", "Bearer A", "two words secret:A", "secret", "xsecret:A", "vault:A"):
        assert secret_in(text) is None
        assert not is_use(text)


@pytest.mark.parametrize("text", ["secret:", "secret:a b", "secret:../x", "Bearer secret:A\n", "secret:A secret:B"])
def test_a_name_that_no_secret_can_have_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        secret_in(text)
    assert not is_use(text)
