"""Sessions of browsers, and the one-time links that begin them. In memory only: they are gone with the process.

A secret is known here by its hash, as a token is. Nothing is read off a clock: `now_s` is of one that does not go back.
What a cookie looks like, and who may have a link, is decided elsewhere.
"""

import hmac
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import Callable
from typing import Generic, TypeVar

import attrs

from palyra_trio.core.errors import Busy
from palyra_trio.core.identity import Caller, Principal
from palyra_trio.core.tokens import hash_of

SECRET_BYTES = 32
LINK_S = 10 * 60  # from the terminal to the browser
IDLE_S = 12 * 3600
ABSOLUTE_S = 7 * 24 * 3600
SESSIONS_KEPT = 1000  # past these the oldest goes, of who has the most
SESSIONS_OF_ONE = 100  # principal; past these its own oldest
LINKS_KEPT = 100
LINKS_OF_ONE = 10
FAILURES_PER_MIN = 10  # of one address; a secret has 256 bits, so this is against noise in the log
ADDRESSES_KEPT = 1000


Owned = TypeVar("Owned", "WebSession", "_Link")


@attrs.define
class WebSession:
    """A browser that has signed in as `caller`. `csrf` is what its forms carry."""

    key: str
    caller: Caller
    csrf: str = attrs.field(repr=False)
    begun_s: float
    seen_s: float

    def over(self, now_s: float) -> bool:
        return now_s >= min(self.seen_s + IDLE_S, self.begun_s + ABSOLUTE_S)

    def vouches_for(self, csrf: str) -> bool:
        """Return whether a form's token is this session's."""
        return hmac.compare_digest(self.csrf.encode(), csrf.encode("utf-8", "replace"))


@attrs.frozen
class _Link:
    caller: Caller
    until_s: float


class WebSessions:
    """The sessions and links of one process. `random` returns that many random bytes."""

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        self._sessions: _Kept[WebSession] = _Kept(SESSIONS_KEPT, SESSIONS_OF_ONE)
        self._links: _Kept[_Link] = _Kept(LINKS_KEPT, LINKS_OF_ONE)

    def open_link(self, caller: Caller, now_s: float) -> str:
        """Return the secret of a link by which a browser may sign in as `caller`, once, for `LINK_S`.

        The session is all that this caller is: one of the local user's (`context.local`) works in any folder and heeds what its
        project says, as their command line does. That is meant: such a link is given to who has proved on the Unix socket to be
        them, and shown at the daemon's own terminal. A session that a token began is not local, and ends with the token.
        """
        secret = self._secret()
        self._links.add(hash_of(secret), _Link(caller, now_s + LINK_S))
        return secret

    def take_link(self, secret: str, now_s: float) -> Caller | None:
        """Return who the link is for, and end it; None for one that is unknown, used or too old."""
        link = self._links.by_key.pop(hash_of(secret), None)
        return link.caller if link is not None and now_s < link.until_s else None

    def begin(self, caller: Caller, now_s: float) -> tuple[str, WebSession]:
        """Return the secret of a new session, for its cookie, and the session."""
        secret = self._secret()
        session = WebSession(hash_of(secret), caller, self._secret(), now_s, now_s)
        self._sessions.add(session.key, session)
        return secret, session

    def find(self, secret: str, now_s: float) -> WebSession | None:
        """Return the session that a cookie means, seen now; None for one that is unknown or over."""
        session = self._sessions.by_key.get(hash_of(secret))
        if session is None or not self.goes_on(session, now_s):
            return None
        session.seen_s = now_s
        return session

    def goes_on(self, session: WebSession, now_s: float) -> bool:
        """Return whether the session has not ended since it was found."""
        if session.over(now_s):
            self.end(session)
        return session.key in self._sessions.by_key

    def end(self, session: WebSession) -> None:
        self._sessions.by_key.pop(session.key, None)

    def end_all(self, principal: Principal) -> None:
        """End every session of a principal, and every link that would begin another."""
        self._sessions.drop_of(principal)
        self._links.drop_of(principal)

    def _secret(self) -> str:
        return urlsafe_b64encode(self._random(SECRET_BYTES)).rstrip(b"=").decode()


class Failures:
    """How often each address failed to sign in within the last minute."""

    def __init__(self) -> None:
        self._at_s: dict[str, tuple[float, ...]] = {}

    def check(self, address: str, now_s: float) -> None:
        """Raise Busy for an address that failed too often."""
        recent = tuple(at_s for at_s in self._at_s.get(address, ()) if at_s > now_s - 60)
        if len(recent) >= FAILURES_PER_MIN:
            raise Busy("too many attempts to sign in", remedy="wait a minute, or use a link: palyra-trio console")

    def add(self, address: str, now_s: float) -> None:
        failed = (*self._at_s.pop(address, ())[1 - FAILURES_PER_MIN :], now_s)
        self._at_s[address] = failed
        if len(self._at_s) > ADDRESSES_KEPT:
            del self._at_s[next(iter(self._at_s))]


class _Kept(Generic[Owned]):
    """What principals have, by key, the oldest first: `most` in all, and `of_one` of each."""

    def __init__(self, most: int, of_one: int) -> None:
        self.by_key: dict[str, Owned] = {}
        self._most = most
        self._of_one = of_one

    def add(self, key: str, value: Owned) -> None:
        """Add a value, and drop the oldest of its principal beyond its bound, or of the one that has the most."""
        self.by_key[key] = value
        count = Counter(map(_whose, self.by_key.values()))
        if count[_whose(value)] > self._of_one:
            self._drop_oldest_of(_whose(value))
        elif len(self.by_key) > self._most:
            self._drop_oldest_of(max(count, key=count.__getitem__))

    def drop_of(self, principal: Principal) -> None:
        self.by_key = {key: each for key, each in self.by_key.items() if _whose(each) != principal}

    def _drop_oldest_of(self, principal: Principal) -> None:
        del self.by_key[next(key for key, each in self.by_key.items() if _whose(each) == principal)]


def _whose(owned: WebSession | _Link) -> Principal:
    return owned.caller.context.principal
