"""Which folders may be a workspace, and which files in one are always asked for.

Rules about names: nothing is opened here.
"""

import fnmatch
import re
from pathlib import Path

_SECRET_NAMES = {
    "an environment file, which often holds secrets": (".env", ".env.*", "*.env", ".envrc"),
    "a key file": (
        *("*.pem", "*.key", "*.p12", "*.pfx", "*.kdbx", "*.jks", "*.keystore", "*.ppk"),
        *("id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*"),
    ),
    "a credentials file": (
        *(".netrc", "_netrc", ".npmrc", ".pypirc", ".git-credentials", ".pgpass", ".my.cnf", ".htpasswd"),
        *("credentials", "credentials*.json", "credentials*.toml", "client_secret*.json", "secrets.*", ".vault-token"),
    ),
}
_SECRET_FOLDERS = frozenset(
    (".ssh", ".gnupg", ".aws", ".azure", ".kube", ".password-store", "secrets", ".secrets", "gcloud")
)
_SECRET_ENDS = (".docker/config.json", ".git/config", ".config/gh/hosts.yml")
_ACTING_FOLDERS = frozenset((".git", ".githooks", ".husky", ".vscode"))
_ACTING_NAMES = frozenset(("palyra.toml", ".gitmodules"))

_SECRET_PATTERNS = tuple(
    (why, re.compile("|".join(map(fnmatch.translate, globs)))) for why, globs in _SECRET_NAMES.items()
)


def refuse_root(path: Path, home: Path, state_dir: Path) -> str:
    """Return why `path` is no workspace unless a person names it as one, or "". All three are absolute and resolved."""
    if path == Path(path.anchor):
        return f"{path} is the whole file system"
    if path == home:
        return f"{path} is your home folder"
    if home.is_relative_to(path):
        return f"{path} contains your home folder"
    if state_dir.is_relative_to(path):
        return f"{path} contains the state directory {state_dir}"
    if path.is_relative_to(state_dir):
        return f"{path} is inside the state directory {state_dir}"
    return ""


def sensitive(path: str, *, writing: bool = False) -> str:
    """Return why a call on this path always asks, or "". Letter case makes no difference.

    A write is also asked for where programs take their orders from: `.git`, hooks, editor tasks, project config.
    """
    folded = path.casefold()
    parts = folded.split("/")
    for part in parts:
        if part in _SECRET_FOLDERS:
            return f"{path} is in a folder for secrets ({part})"
    if folded.endswith(_SECRET_ENDS):
        return f"{path} is a credentials file"
    for why, pattern in _SECRET_PATTERNS:
        if pattern.match(parts[-1]):
            return f"{path} is {why}"
    if writing and (parts[-1] in _ACTING_NAMES or not _ACTING_FOLDERS.isdisjoint(parts)):
        return f"{path} decides what other programs do"
    if writing and ".github/workflows/" in folded:
        return f"{path} is a workflow that runs elsewhere"
    return ""
