"""What is masked, what is left alone, and that a stream says the same as the whole, however it is cut."""

import ast
import statistics
import sysconfig
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra_trio.guard.redactor import DEPTH_MAX, MARKER, Redactor, has_marker

ALNUM = "a1B2c3D4e5F6g7H8i9J0" * 4
# Built from parts, so that no scanner takes this file for a leak.
BASE64_LINES = "\n".join([ALNUM[:64]] * 5 + ["c3Rvd24="])
PEM_HEAD = f"-----BEGIN {'PRIVATE'} KEY-----"
PEM_FOOT = f"-----END {'PRIVATE'} KEY-----"
PEM = f"{PEM_HEAD}\n{BASE64_LINES}\n{PEM_FOOT}"
SECRETS = {
    "openai_key": [f"sk-{ALNUM[:48]}", f"sk-proj-{ALNUM[:30]}-_{ALNUM[:40]}", f"sk-svcacct-{ALNUM[:40]}"],
    "anthropic_key": [f"sk-ant-api03-{ALNUM[:40]}-{ALNUM[:20]}AA"],
    "openrouter_key": [f"sk-or-v1-{ALNUM[:64]}"],
    "groq_key": [f"gsk_{ALNUM[:52]}"],
    "huggingface_token": [f"hf_{ALNUM[:34]}"],
    "github_token": [f"gh{kind}_{ALNUM[:36]}" for kind in "pousr"] + [f"github_pat_{ALNUM[:22]}_{ALNUM[:59]}"],
    "gitlab_token": [f"glpat-{ALNUM[:20]}"],
    "aws_key": ["AKIA" + "IOSFODNN7EXAMPLE", "ASIA" + "IOSFODNN7EXAMPLE"],
    "google_key": [f"AIza{ALNUM[:35]}"],
    "slack_token": [f"xox{kind}-{'1234567890'}-{ALNUM[:24]}" for kind in "baprs"],
    "stripe_key": [f"sk_live_{ALNUM[:24]}", f"rk_live_{ALNUM[:24]}", f"sk_test_{ALNUM[:24]}"],
    "sendgrid_key": [f"SG.{ALNUM[:22]}.{ALNUM[:43]}"],
    "npm_token": [f"npm_{ALNUM[:36]}"],
    "palyra_token": [f"plt_{ALNUM[:20]}-_{ALNUM[:21]}"],
    "pypi_token": [f"pypi-AgEIcHlwaS5vcmc{ALNUM[:60]}"],
    "jwt": [f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.{ALNUM[:43]}"],
    "private_key": [PEM, PEM.replace("\n", "\\n"), PEM.replace("PRIVATE", "RSA PRIVATE")],
}
PLANTED = [(kind, secret) for kind, secrets in SECRETS.items() for secret in secrets]
PIECES = [secret for _, secret in PLANTED] + [
    f"Bearer {ALNUM[:30]}.",
    f"Authorization: Basic {ALNUM[:12]}==",
    "postgres://app:hunter2@db/x",
    "https://user:p@ss:word@host",
    f"hooks.slack.com/services/T0/B0/{ALNUM[:24]}",
    f"{PEM_HEAD} is how it begins",
    "sk-", "eyJ", "eyJhbGciOiJI.", "http://localhost:8080/", "Bearer ", "-----", "a", "_", ".", " ", "\n", "é", "\udc80", "x" * 400,
]  # fmt: skip


@pytest.fixture
def redactor() -> Redactor:
    return Redactor()


@pytest.mark.parametrize(("kind", "secret"), PLANTED, ids=[f"{kind}-{n}" for n, (kind, _) in enumerate(PLANTED)])
def test_a_planted_secret_becomes_its_marker_and_the_rest_stays(redactor: Redactor, kind: str, secret: str) -> None:
    text = f'é before "{secret}", after\n'

    assert redactor.text(text) == f'é before "[redacted:{kind}]", after\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"Authorization: Bearer {ALNUM[:12]}", "Authorization: Bearer [redacted:authorization]"),
        (f"-H 'authorization: basic {ALNUM[:12]}=='", "-H 'authorization: basic [redacted:authorization]'"),
        (f'{{"Authorization": "Bearer {ALNUM[:12]}"}}', '{"Authorization": "Bearer [redacted:authorization]"}'),
        (f"Use Bearer {ALNUM[:40]}. Then go on.", "Use Bearer [redacted:authorization]. Then go on."),
        ("redis://:hunter2@cache:6379/0", "redis://:[redacted:url_password]@cache:6379/0"),
        ("mysql://app:p@ss:w@db/x and more", "mysql://app:[redacted:url_password]@db/x and more"),
        (
            f"https://ghp_{ALNUM[:36]}:x-oauth-basic@github.com/a/b",
            "https://[redacted:github_token]:[redacted:url_password]@github.com/a/b",
        ),
        (f"https://hooks.slack.com/services/T0/B0/{ALNUM[:24]} ok", "https://[redacted:slack_webhook] ok"),
        (f"KEY=ghp_{ALNUM[:36]}&x", "KEY=[redacted:github_token]&x"),
    ],
)
def test_only_the_secret_part_is_masked(redactor: Redactor, text: str, expected: str) -> None:
    assert redactor.text(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ok",
        "a task-force, a risk-averse desk-bound clerk: sk-folding-cube sk-cube-grid-animation",
        f'if "{PEM_HEAD}" in text and "{PEM_FOOT}" in text:',
        "http://localhost:8080/path http://[::1]:80/ git@github.com:a/b.git mailto:a@b.c ssh://git@host/x",
        "postgres://${USER}:${PASSWORD}@db/x and http://{user}:{password}@{host}/",
        'headers = {"Authorization": f"Bearer {token}"}; raise Unauthorized("Bearer token expected")',
        '{"max_tokens": 4096, "next_page_token": "CAoQAA", "tokenizer": "cl100k"}',
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "eyJuZXh0IjoiY3Vyc29yIiwicGFnZSI6MTB9",
        "npm_config_registry npm_package_name pypi-server hf_transfer SG.Group MSG.x.y",
        "the cost is $5 \u202e and a lone \udc80 surrogate",
        "\ud83d\ude00",
    ],
)
def test_ordinary_text_is_returned_as_the_same_object(redactor: Redactor, text: str) -> None:
    assert redactor.text(text) is text
    assert "".join([*map((stream := redactor.stream()).feed, text), stream.flush()]) == text


def test_ordinary_source_code_survives_byte_for_byte(redactor: Redactor) -> None:
    stdlib = Path(sysconfig.get_path("stdlib"))
    texts = [path.read_text(errors="surrogateescape") for path in sorted(stdlib.glob("[a-z]*.py"))]
    changed = [text for text in texts if redactor.text(text) is not text]

    assert len(texts) > 150
    assert [MARKER.findall(redactor.text(text)) for text in changed] == []


def test_of_the_whole_standard_library_only_passwords_in_urls_of_its_tests_are_masked(redactor: Redactor) -> None:
    stdlib = Path(sysconfig.get_path("stdlib"))
    files = [path for path in stdlib.rglob("*.py") if "site-packages" not in path.parts]
    masked, size = Counter[str](), 0
    for path in files:
        text = path.read_text(errors="surrogateescape")
        size += len(text)
        for marker in MARKER.findall(redactor.text(text)):
            assert "test" in path.relative_to(stdlib).as_posix(), f"{path}: {marker}"
            masked[marker] += 1
    print(f"{len(files)} files of {size / 1e6:.1f} MB: {dict(masked)}")

    assert size > 10e6
    assert set(masked) <= {"[redacted:url_password]"}
    assert masked.total() <= 30  # 10 with Python 3.11.7, all of them passwords in a URL


def test_a_private_key_that_was_cut_short_is_masked_and_the_next_paragraph_stays(redactor: Redactor) -> None:
    cut = PEM[: PEM.index("-----END")]

    assert redactor.text(f"{cut}\n\nThe key, above, is not whole.").startswith("[redacted:private_key]")
    assert redactor.text(f"{cut}\n\nThe key, above, is not whole.").endswith(", above, is not whole.")
    assert ALNUM[:20] not in redactor.text(PEM[:200])


def test_a_private_key_behind_line_numbers_or_diff_marks_is_masked(redactor: Redactor) -> None:
    for prefix in ("+", "    12\t", "key.pem:3:", "> "):
        quoted = "\n".join(prefix + line for line in PEM.split("\n"))

        assert redactor.text(f"{quoted}\nrest") == f"{prefix}[redacted:private_key]\nrest"


@pytest.mark.parametrize(
    "key",
    [
        "password", "db_password", "PASSWORD_2", "passwd", "secret", "client_secret", "clientSecret", "api_key", "apikey",
        "OPENAI_API_KEY", "X-Api-Key", "openaiApiKey", "access_token", "refreshToken", "auth_token", "Authorization",
        "Proxy-Authorization", "cookie", "Set-Cookie", "private_key", "aws_secret_access_key", "session token",
    ],
)  # fmt: skip
def test_a_key_that_names_a_secret_masks_its_value(redactor: Redactor, key: str) -> None:
    masked = redactor.value({key: "hunter2", "n": 1})

    assert MARKER.fullmatch(masked[key])
    assert masked["n"] == 1


def test_a_reference_to_a_secret_is_no_secret_under_any_key(redactor: Redactor) -> None:
    value = {
        "headers": {"authorization": "Bearer secret:GITHUB", "x-api-key": "secret:KEY.2"},
        "password": ["secret:P"],
    }
    assert redactor.value(value) is value
    assert redactor.text('{"headers":{"authorization":"Bearer secret:GITHUB"}}').endswith('"Bearer secret:GITHUB"}}')


@pytest.mark.parametrize("text", ["secret:hunter 2", "secret:", "2 words secret:A", "secret:A, secret:B"])
def test_what_only_resembles_a_reference_is_masked(redactor: Redactor, text: str) -> None:
    assert has_marker(redactor.value({"password": text}))


def test_a_known_secret_behind_the_form_of_a_reference_is_masked(redactor: Redactor) -> None:
    redactor.know(["hunter2-hunter2"])
    assert has_marker(redactor.value({"password": "secret:hunter2-hunter2"}))


@pytest.mark.parametrize(
    "key",
    [
        "token_count", "max_tokens", "input_tokens", "total_tokens", "tokenizer", "secretary", "next_page_token", "token",
        "tokens", "password_policy", "cookie_count", "key", "keyboard", "api_key_name", "author", "authorized", "pass",
    ],
)  # fmt: skip
def test_a_key_that_only_sounds_like_a_secret_does_not(redactor: Redactor, key: str) -> None:
    value = {"usage": [{key: "plain"}, {key: 12}]}

    assert redactor.value(value) is value


def test_under_a_secret_key_lists_and_numbers_are_masked_but_structure_is_not(redactor: Redactor) -> None:
    value = {
        "set-cookie": ["a=1", "b=2"],
        "password": 1234,
        "secret": None,
        "cookie": True,
        "api_key": "",
        "passwd": {"type": "string", "password": "x"},
    }

    assert redactor.value(value) == {
        "set-cookie": ["[redacted:cookie]", "[redacted:cookie]"],
        "password": "[redacted:password]",
        "secret": None,
        "cookie": True,
        "api_key": "",
        "passwd": {"type": "string", "password": "[redacted:password]"},
    }


def test_secrets_in_nested_texts_and_in_keys_are_masked_and_the_input_is_not_touched(redactor: Redactor) -> None:
    token = f"ghp_{ALNUM[:36]}"
    value = {"a": [{"b": f"x {token}"}, ("keep", token)], token: 1, 7: token}
    before = repr(value)

    assert redactor.value(value) == {
        "a": [{"b": "x [redacted:github_token]"}, ("keep", "[redacted:github_token]")],
        "[redacted:github_token]": 1,
        7: "[redacted:github_token]",
    }
    assert repr(value) == before


def test_nesting_is_bounded_and_what_lies_deeper_is_masked(redactor: Redactor) -> None:
    def nested(depth: int) -> Any:
        value: Any = "leaf"
        for level in range(depth):
            value = [value] if level % 2 else {"k": value}
        return value

    shallow = nested(DEPTH_MAX)

    assert redactor.value(shallow) is shallow
    assert "leaf" not in repr(redactor.value(nested(DEPTH_MAX + 1)))
    assert has_marker(redactor.value(nested(DEPTH_MAX + 300)))


def test_has_marker_finds_one_in_texts_keys_and_lists_and_nowhere_else() -> None:
    assert has_marker("x [redacted:jwt] y")
    assert has_marker({"a": [1, ("[redacted:jwt]",)]})
    assert has_marker({"[redacted:jwt]": 1})
    assert not has_marker({"a": [1, None, "[redacted]", "redacted:jwt"]})


text_with_secrets = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=8)), max_size=8).map("".join)


@given(text_with_secrets)
@settings(deadline=None)
def test_redacting_twice_changes_nothing_more(text: str) -> None:
    once = Redactor().text(text)

    assert Redactor().text(once) == once


@given(st.sampled_from(PLANTED), st.text(max_size=20), st.text(max_size=20))
def test_a_secret_between_any_texts_never_shows(planted: tuple[str, str], before: str, after: str) -> None:
    _, secret = planted

    assert secret not in Redactor().text(f"{before} {secret} {after}")


@pytest.mark.parametrize("second", PLANTED)
def test_secrets_glued_together_are_all_masked(redactor: Redactor, second: tuple[str, str]) -> None:
    for _, first in PLANTED:
        once = redactor.text(f"{first}{second[1]}")

        assert second[1] not in once
        assert redactor.text(once) == once


@given(text_with_secrets, st.data())
@settings(deadline=None, max_examples=400)
def test_a_stream_says_what_the_whole_would_however_it_is_cut(text: str, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 40))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=12)) | set(range(0, len(text) + 1, size)))
    stream = Redactor().stream()
    shown = [stream.feed(text[a:b]) for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]

    assert "".join([*shown, stream.flush()]) == Redactor().text(text)


def test_a_stream_that_was_flushed_begins_anew() -> None:
    stream = Redactor().stream()
    stream.feed(f"ghp_{ALNUM[:36]}")
    stream.flush()

    assert stream.feed(ALNUM[:20]) + stream.flush() == ALNUM[:20]


def test_prose_and_code_are_not_delayed() -> None:
    source = Path(ast.__file__).read_text()[:60_000]
    for size in (1, 4, 17):
        stream = Redactor().stream()
        held, shown = [], 0
        for at in range(0, len(source), size):
            shown += len(stream.feed(source[at : at + size]))
            held.append(min(at + size, len(source)) - shown)

        assert statistics.median(held) == 0
        assert statistics.mean(held) < 1


@pytest.mark.parametrize("secret", [f"sk-{ALNUM[0] * 200_000}", "eyJ" + "a" * 200_000, PEM_HEAD + "A" * 200_000])
def test_what_a_stream_holds_is_bounded(secret: str) -> None:
    stream = Redactor().stream()
    most = 0
    for at in range(0, len(secret), 500):
        stream.feed(secret[at : at + 500])
        most = max(most, len(stream._held))

    assert most <= 17 * 1024


@pytest.mark.parametrize(
    "unit",
    [
        "plain prose, nothing else. ", "sk-", "eyJ", "eyJa.", "://a:", PEM_HEAD, "Bearer ", "SG.aaaaaaaaaaaaaaaaa.",
        f"ghp_{ALNUM[:36]} ", "AKIA", "sk-proj-", "\ud800", "é",
    ],
)  # fmt: skip
def test_a_hostile_megabyte_takes_linear_time(redactor: Redactor, unit: str) -> None:
    text = (unit * (1_000_000 // len(unit) + 1))[:1_000_000]
    start = time.process_time()
    redactor.text(text)

    assert time.process_time() - start < 2.0


@pytest.mark.slow
def test_of_the_whole_standard_library_only_passwords_in_urls_of_its_own_tests_are_masked(redactor: Redactor) -> None:
    stdlib = Path(sysconfig.get_path("stdlib"))
    files = [path for path in sorted(stdlib.rglob("*.py")) if "site-packages" not in path.parts]
    masked = []
    for path in files:
        text = path.read_text(errors="surrogateescape")
        if (found := redactor.text(text)) is not text:
            masked += [(path.relative_to(stdlib).parts[0], *MARKER.findall(found))]
    count = sum(len(found) - 1 for found in masked)
    print(f"{count} markers in {len(files)} files")

    assert {place for place, *_ in masked} <= {"test"}
    assert {marker for _, *markers in masked for marker in markers} <= {"[redacted:url_password]"}
    assert count <= 10


def test_bytes_of_any_kind_are_searched_for_the_values_that_are_kept() -> None:
    redactor = Redactor()
    assert not redactor.knows(b"\xff a kept value")
    redactor.know(["a kept value"])
    assert redactor.knows(b"\xff a kept value")
    assert redactor.knows(b"\xff" + b"a kept value".hex().encode())
    assert not redactor.knows(b"\xff api_key=other-value-123456")
