from pathlib import Path

import pytest

from palyra_trio.tools.workspace_rules import refuse_root, sensitive

HOME = Path("/home/ana")
STATE = HOME / ".local" / "state" / "palyra-trio"


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/", "file system"),
        ("/home/ana", "your home folder"),
        ("/home", "contains your home"),
        ("/home/ana/.local", "contains the state"),
        (str(STATE), "contains the state"),
        (str(STATE / "blobs"), "inside the state"),
    ],
)
def test_a_folder_that_holds_too_much_is_no_workspace(path: str, word: str) -> None:
    assert word in refuse_root(Path(path), HOME, STATE)


@pytest.mark.parametrize("path", ["/home/ana/project", "/home/ana2", "/srv/work", "/home/ana/.local/share/x"])
def test_any_other_folder_may_be_a_workspace(path: str) -> None:
    assert refuse_root(Path(path), HOME, STATE) == ""


@pytest.mark.parametrize(
    "path",
    [
        *(".env", "app/.env.local", ".ENV", "prod.env", "server.pem", "tls/SERVER.KEY", "id_rsa", "id_ed25519.pub"),
        *(".ssh", ".ssh/config", "backup/.gnupg/x", ".aws/credentials", ".kube/config", ".docker/config.json"),
        *(".netrc", ".npmrc", ".pypirc", ".git-credentials", "credentials.json", "credentials-prod.json", "a.p12"),
        *("a.pfx", "vault.kdbx", "secrets/db.txt", "Secrets/db.txt", "k8s/secrets.yaml", ".git/config"),
    ],
)
def test_a_secret_always_asks_whatever_its_letter_case(path: str) -> None:
    assert path in sensitive(path)
    assert sensitive(path.upper()) != ""


@pytest.mark.parametrize(
    "path", ["README.md", "src/env.py", "keys.py", "monkey", "environment", "secretary.txt", "docs/config.json", "."]
)
def test_a_plain_name_does_not_ask(path: str) -> None:
    assert sensitive(path) == sensitive(path, writing=True) == ""


@pytest.mark.parametrize(
    "path", [".git/hooks/pre-commit", "sub/.git/HEAD", "palyra.toml", ".github/workflows/ci.yml", ".vscode/tasks.json"]
)
def test_what_programs_take_orders_from_asks_for_writes_alone(path: str) -> None:
    assert sensitive(path, writing=True) != ""
    assert sensitive(path) == ""
