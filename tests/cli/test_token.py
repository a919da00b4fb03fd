import json
import re
import time

import pytest

from palyra_trio.cli.open import principal
from palyra_trio.core.identity import ulid_number
from palyra_trio.core.tokens import hash_of
from palyra_trio.journal.queries import Reader
from tests.cli.conftest import Home, Palyra

DAY_MS = 86_400_000


def created(palyra: Palyra, *options: str) -> dict[str, object]:
    made: dict[str, object] = json.loads(palyra("token", "create", "laptop", *options, "--json").stdout)
    return made


def listed(palyra: Palyra, *options: str) -> list[tuple[str, str]]:
    tokens = json.loads(palyra("token", "list", "--json", *options).stdout)["tokens"]
    return [(each["token_id"], each["state"]) for each in tokens]


def test_the_secret_alone_is_on_stdout_and_what_it_is_on_stderr(palyra: Palyra, home: Home) -> None:
    result = palyra("token", "create", "laptop", "--scope", "run", "--scope", "read")
    assert result.exit_code == 0
    assert re.fullmatch(r"plt_[A-Za-z0-9_-]{43}\n", result.stdout)
    assert f"(laptop) speaks for {principal()}, may run, read, expires: never; its secret is shown" in result.stderr
    reader = Reader(home.journal)
    (token,) = reader.tokens()
    reader.close()
    assert token.hash == hash_of(result.stdout.strip())


def test_json_holds_the_token_and_its_secret_once(palyra: Palyra) -> None:
    made = created(palyra, "--scope", "worker", "--principal", "service:ci")
    assert made["secret"]
    assert (made["principal"], made["scopes"], made["expires_ms"]) == ("service:ci", ["worker"], 0)
    for text in (palyra("token", "list").stdout, palyra("token", "list", "--json", "--all").stdout):
        assert str(made["token_id"]) in text
        assert str(made["secret"]) not in text
        assert hash_of(str(made["secret"])) not in text


@pytest.mark.parametrize(("text", "length_ms"), [("30d", 30 * DAY_MS), ("12h", DAY_MS // 2), ("45min", 2_700_000)])
def test_a_token_expires_when_the_option_says(palyra: Palyra, text: str, length_ms: int) -> None:
    before = time.time_ns() // 1_000_000
    made = created(palyra, "--scope", "read", "--expires", text)
    expires_ms = made["expires_ms"]
    assert isinstance(expires_ms, int)
    assert before + length_ms <= expires_ms <= (ulid_number(str(made["token_id"])) >> 80) + length_ms


def test_a_revoked_token_is_listed_only_when_asked_for(palyra: Palyra) -> None:
    first, second = (str(created(palyra, "--scope", "read")["token_id"]) for _ in range(2))
    result = palyra("token", "revoke", first.lower())
    assert (result.exit_code, result.stdout) == (0, f"revoked token {first}\n")
    assert listed(palyra) == [(second, "active")]
    assert listed(palyra, "--all") == [(second, "active"), (first, "revoked")]
    assert json.loads(palyra("token", "revoke", second, "--json").stdout) == {"token_id": second, "revoked": True}
    assert palyra("token", "revoke", second).exit_code == 1


def test_rotating_shows_a_new_secret_and_ends_the_old_one(palyra: Palyra) -> None:
    old = created(palyra, "--scope", "read", "--scope", "approve", "--expires", "1h")
    new = json.loads(palyra("token", "rotate", str(old["token_id"]), "--json").stdout)
    assert new["secret"] != old["secret"]
    assert {key: new[key] for key in ("name", "principal", "scopes", "expires_ms")} == {
        key: old[key] for key in ("name", "principal", "scopes", "expires_ms")
    }
    assert listed(palyra, "--all") == [(new["token_id"], "active"), (old["token_id"], "revoked")]


def test_a_list_of_nothing_is_an_answer(palyra: Palyra, home: Home) -> None:
    result = palyra("token", "list")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "no tokens yet\n")
    assert palyra("token", "list", "--json").stdout == '{"tokens":[]}\n'
    assert not home.state_dir.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("create", "x"), "--scope"),
        (("create", "x", "--scope", "root"), "root"),
        (("create", "x", "--scope", "run", "--expires", "soon"), "30d"),
        (("create", "x", "--scope", "run", "--expires", "0d"), "30d"),
        (("create", "", "--scope", "run"), "a token's name has"),
        (("create", "x", "--scope", "run", "--principal", "alice"), "KIND:NAME"),
        (("revoke", "laptop"), "is not a ULID"),
        (("rotate", "laptop"), "is not a ULID"),
    ],
)
def test_what_means_nothing_is_a_fault_of_usage(palyra: Palyra, arguments: tuple[str, ...], said: str) -> None:
    result = palyra("token", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


def test_a_token_that_there_is_not_is_refused_with_where_to_look(palyra: Palyra) -> None:
    result = palyra("token", "revoke", "01HZZZZZZZ0000000000000001")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "palyra-trio token list" in result.stderr
