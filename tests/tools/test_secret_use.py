"""Where there is no vault, no name of a secret leads to anything."""

import pytest

from palyra_trio.core.errors import NotFound
from palyra_trio.core.references import SecretReference
from palyra_trio.tools.registry import ToolContext
from palyra_trio.tools.secret_use import NO_SECRETS


def test_without_a_vault_no_secret_is_there() -> None:
    assert ToolContext(None, lambda: 0.0).secrets is NO_SECRETS  # type: ignore[arg-type]  # no file is touched
    with pytest.raises(NotFound, match="there is no secret GH: this process has no vault"):
        NO_SECRETS.look("GH", "h", 443)
    with pytest.raises(NotFound, match="there is no secret GH"):
        NO_SECRETS.reveal(SecretReference("GH"), "h", 443)
