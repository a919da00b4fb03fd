"""A token is read back as it was made, revoked or not, by its id or in a list."""

from pathlib import Path

import pytest

from palyra_trio.core.errors import NotFound
from palyra_trio.core.tape import SYSTEM_STREAM
from palyra_trio.core.tokens import TokenRevoked, token_of
from palyra_trio.journal.store import SqliteStore
from tests.journal.test_projections import made
from tests.journal.tickets import BOB, commit, read, ticket


def test_a_token_is_found_by_its_id_also_when_it_is_revoked(tmp_path: Path) -> None:
    first, second = made("T1", "run", "read", expires_ms=50), made("T2", "fly", "worker")
    with SqliteStore(tmp_path) as store:
        commit(store, ticket(SYSTEM_STREAM, first), ticket(SYSTEM_STREAM, second), at_ms=5)
        with read(tmp_path) as reader:
            assert (reader.find_token("T1"), reader.find_token("T2")) == (token_of(first, 5), token_of(second, 5))
        commit(store, ticket(SYSTEM_STREAM, TokenRevoked("T1", BOB)), at_ms=9)
        with read(tmp_path) as reader:
            assert reader.find_token("T1").revoked_ms == 9
            with pytest.raises(NotFound, match="there is no token T"):
                reader.find_token("T")
