"""What comes with the program: the schema and the sets of policies, as text, and the name of a whole set: its hash.

The engine is not needed for this, and is not loaded.
"""

import functools
import hashlib
from collections.abc import Iterable
from importlib import resources

from palyra_trio.guard.policy_text import PolicySource

ENGINE = "cedar 4.12"  # whose judgements a hash stands for
PRESETS = ("default", "strict", "trusted-workspace")


def preset(name: str) -> PolicySource:
    """Return a set that comes with this program. Raises KeyError for a name that is not in PRESETS."""
    if name not in PRESETS:
        raise KeyError(name)
    return PolicySource(f"preset {name}", _packaged(f"{name}.cedar"))


@functools.cache
def schema_text() -> str:
    """Return the schema that every policy is checked against."""
    return _packaged("schema.cedarschema")


def _packaged(name: str) -> str:
    return (resources.files(__package__) / "policies" / name).read_text("utf-8")


def policy_hash(sources: Iterable[PolicySource]) -> str:
    """Return SHA-256 (hex) over the engine's version, the schema, and the sources in order of name."""
    parts = [ENGINE, schema_text()]
    for source in sorted(sources, key=lambda each: each.name):
        parts += (source.name, source.text)
    found = hashlib.sha256()
    for part in parts:
        raw = part.encode()
        found.update(len(raw).to_bytes(8, "big") + raw)
    return found.hexdigest()
