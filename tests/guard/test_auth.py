"""Every way in, and every refusal by its code and what it says to do."""

from collections.abc import Callable

import attrs
import pytest

from palyra_trio.core.errors import PalyraError, PolicyError, Unauthenticated
from palyra_trio.core.identity import Caller, Peer, Principal, RequestContext, Scope
from palyra_trio.core.tokens import Token, hash_of
from palyra_trio.guard.auth import AUTHORIZATION, CHANNEL, DEVICE, PRINCIPAL, Authenticator, Metadata

NOW_MS = 1_000_000
UID = 1000
ME = Principal("user:me")
ALICE, ROOT = Principal("user:alice"), Principal("user:root")
ULID = "01HZZZZZZZ0000000000000001"
TCP, LOCAL, OTHER_USER = Peer(address="10.0.0.7:5000"), Peer(UID), Peer(UID + 1)


def token(name: str, principal: Principal, *scopes: Scope, expires_ms: int = 0) -> Token:
    return Token(name, name, principal, scopes, hash_of(f"secret of {name}"), expires_ms, 1, "user:root")


class Known:
    """The tokens that were not revoked."""

    def __init__(self, *tokens: Token) -> None:
        self.by_id = {each.token_id: each for each in tokens}

    def find(self, hash: str) -> Token | None:
        return next((each for each in self.by_id.values() if each.hash == hash), None)

    def get(self, token_id: str) -> Token | None:
        return self.by_id.get(token_id)

    def __len__(self) -> int:
        return len(self.by_id)


@attrs.define
class Clock:
    now_s: float = NOW_MS / 1000

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def known() -> Known:
    return Known(
        token("alice", ALICE, Scope.RUN, Scope.READ),
        token("root", ROOT, Scope.ADMIN, Scope.READ),
        token("old", ALICE, Scope.READ, expires_ms=NOW_MS),
        token("fresh", ALICE, Scope.READ, expires_ms=NOW_MS + 1),
    )


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def door(known: Known, clock: Clock) -> Authenticator:
    return Authenticator(known, UID, ME, clock)


def bearer(name: str, **headers: str) -> dict[str, str]:
    return {AUTHORIZATION: f"Bearer secret of {name}"} | {
        key.replace("_", "-"): value for key, value in headers.items()
    }


class Repeated(dict[str, str | bytes]):
    """A mapping that holds every value twice, as a multi-dict tells it."""

    def items(self) -> list[tuple[str, str | bytes]]:  # type: ignore[override]
        return [*super().items(), *super().items()]


# --- who comes in ---


@pytest.mark.parametrize("peer", [TCP, LOCAL, OTHER_USER])
def test_a_token_counts_wherever_it_is_sent_and_gives_no_more_than_it_says(door: Authenticator, peer: Peer) -> None:
    assert door.authenticate(bearer("alice"), peer) == Caller(
        RequestContext(ALICE, "", "grpc", local=False), frozenset({Scope.RUN, Scope.READ}), "alice"
    )


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER  "])
def test_the_scheme_has_no_letter_case_and_blanks_around_the_secret_are_nothing(
    door: Authenticator, scheme: str
) -> None:
    assert door.authenticate({AUTHORIZATION: f"{scheme}secret of alice "}, TCP).token_id == "alice"


def test_the_same_user_over_the_unix_socket_is_the_local_user_with_every_scope(door: Authenticator) -> None:
    assert door.authenticate({CHANNEL: "cli"}, LOCAL) == Caller(
        RequestContext(ME, "", "cli", local=True), frozenset(Scope), ""
    )


def test_the_local_user_comes_in_where_no_token_was_ever_made(clock: Clock) -> None:
    assert Authenticator(Known(), UID, ME, clock).authenticate({}, LOCAL).context.principal == ME


def test_device_and_channel_are_taken_from_what_was_sent(door: Authenticator) -> None:
    sent = bearer("alice") | {DEVICE: ULID.lower(), CHANNEL: "phone", PRINCIPAL: "user:alice"}
    assert door.authenticate(sent, TCP).context == RequestContext(ALICE, ULID, "phone")


def test_to_say_cli_makes_nobody_local(door: Authenticator) -> None:
    assert not door.authenticate(bearer("alice") | {CHANNEL: "cli"}, TCP).context.local
    assert not door.authenticate(bearer("alice") | {CHANNEL: "cli"}, LOCAL).context.local


def test_a_token_opens_until_the_millisecond_in_which_it_expires(door: Authenticator, clock: Clock) -> None:
    assert door.authenticate(bearer("fresh"), TCP).token_id == "fresh"
    clock.now_s += 0.001
    with pytest.raises(Unauthenticated, match="token fresh has expired"):
        door.authenticate(bearer("fresh"), TCP)


# --- acting as another ---


@pytest.mark.parametrize(
    ("sent", "peer", "by", "scopes"),
    [
        (bearer("root"), TCP, ROOT, frozenset({Scope.ADMIN, Scope.READ})),
        ({}, LOCAL, ME, frozenset(Scope)),
    ],
)
def test_an_admin_acts_as_another_with_no_scope_more_and_is_no_local_user_then(
    door: Authenticator, sent: dict[str, str], peer: Peer, by: Principal, scopes: frozenset[Scope]
) -> None:
    caller = door.authenticate(sent | {PRINCIPAL: "user:alice"}, peer)
    assert (caller.context.principal, caller.acting, caller.scopes) == (ALICE, by, scopes)
    assert not caller.context.local


def test_to_name_oneself_is_no_acting(door: Authenticator) -> None:
    assert door.authenticate(bearer("root") | {PRINCIPAL: "user:root"}, TCP).acting == ""


# --- who is refused ---


@pytest.mark.parametrize(
    ("sent", "peer", "code", "said", "remedy"),
    [
        ({}, TCP, "unauthenticated", "no token was sent", "authorization: Bearer"),
        ({}, OTHER_USER, "unauthenticated", "no token was sent", "authorization: Bearer"),
        ({AUTHORIZATION: ""}, TCP, "unauthenticated", "no bearer token", "authorization: Bearer"),
        ({AUTHORIZATION: ""}, LOCAL, "unauthenticated", "no bearer token", "authorization: Bearer"),
        ({AUTHORIZATION: "Bearer"}, TCP, "unauthenticated", "no bearer token", "authorization: Bearer"),
        ({AUTHORIZATION: "Bearer "}, TCP, "unauthenticated", "no bearer token", "authorization: Bearer"),
        ({AUTHORIZATION: "secret of alice"}, TCP, "unauthenticated", "no bearer token", "authorization: Bearer"),
        ({AUTHORIZATION: "Basic secret of alice"}, TCP, "unauthenticated", "no bearer token", "authorization: Bearer"),
        (bearer("nobody"), TCP, "unauthenticated", "unknown, or was revoked", "token create"),
        (bearer("nobody"), LOCAL, "unauthenticated", "unknown, or was revoked", "token create"),
        (bearer("alic"), TCP, "unauthenticated", "unknown, or was revoked", "token create"),
        ({AUTHORIZATION: f"Bearer {hash_of('secret of alice')}"}, TCP, "unauthenticated", "unknown", "token create"),
        ({AUTHORIZATION: "Bearer \udc80"}, TCP, "unauthenticated", "unknown", "token create"),
        (bearer("old"), TCP, "unauthenticated", "token old has expired", "token create"),
        (bearer("alice") | {PRINCIPAL: "user:bob"}, TCP, "denied", "not the token's principal", "scope admin"),
        (bearer("alice") | {PRINCIPAL: ""}, TCP, "denied", "not the token's principal", "leave it out"),
        (bearer("alice") | {PRINCIPAL: "USER:alice"}, TCP, "denied", "not the token's principal", "leave it out"),
        (bearer("root") | {PRINCIPAL: "bob"}, TCP, "invalid_argument", "is no principal", "KIND:NAME"),
        (bearer("root") | {PRINCIPAL: ""}, TCP, "invalid_argument", "is no principal", "KIND:NAME"),
        (bearer("alice") | {DEVICE: "laptop"}, TCP, "invalid_argument", "x-palyra-device-id 'laptop'", "26"),
        (bearer("alice") | {DEVICE: ""}, TCP, "invalid_argument", "is not a ULID", "26"),
        (bearer("alice") | {CHANNEL: ""}, TCP, "invalid_argument", "x-palyra-channel has 1 to 64", "leave it out"),
        (bearer("alice") | {CHANNEL: " "}, TCP, "invalid_argument", "x-palyra-channel has 1 to 64", "leave it out"),
        (bearer("alice") | {CHANNEL: "a\nb"}, TCP, "invalid_argument", "x-palyra-channel", "leave it out"),
        (bearer("alice") | {CHANNEL: "x" * 65}, TCP, "invalid_argument", "x-palyra-channel", "leave it out"),
        (Repeated(bearer("alice")), TCP, "invalid_argument", "authorization must be one text", "once"),
        (Repeated({CHANNEL: "a"}), LOCAL, "invalid_argument", "x-palyra-channel must be one text", "once"),
        ({AUTHORIZATION: b"Bearer secret of alice"}, TCP, "invalid_argument", "authorization must be", "once"),
    ],
)
def test_what_is_refused_says_why_and_what_to_do(
    door: Authenticator, sent: Metadata, peer: Peer, code: str, said: str, remedy: str
) -> None:
    with pytest.raises(PalyraError) as caught:
        door.authenticate(sent, peer)
    assert caught.value.code == code
    assert said in caught.value.message
    assert remedy in caught.value.remedy
    assert "secret of" not in str(caught.value)


@pytest.mark.parametrize("sent", [{}, bearer("alice"), {AUTHORIZATION: "Basic x"}])
def test_where_no_token_is_configured_nobody_comes_in_over_tcp(clock: Clock, sent: Metadata) -> None:
    with pytest.raises(Unauthenticated, match="no token is configured") as caught:
        Authenticator(Known(), UID, ME, clock).authenticate(sent, TCP)
    assert "palyra-trio token create" in caught.value.remedy


# --- scopes ---


@pytest.mark.parametrize("held", Scope)
@pytest.mark.parametrize("needed", Scope)
def test_no_scope_implies_another(clock: Clock, held: Scope, needed: Scope) -> None:
    door = Authenticator(Known(token("one", ALICE, held)), UID, ME, clock)
    caller = door.authenticate(bearer("one"), TCP)
    if held is needed:
        door.require(caller, needed)
        return
    with pytest.raises(PolicyError, match=f"this needs the scope {needed}") as caught:
        door.require(caller, needed)
    assert caught.value.code == "denied"
    assert f"--scope {needed}" in caught.value.remedy


def revoke(known: Known, _clock: Clock) -> None:
    del known.by_id["fresh"]


def expire(_known: Known, clock: Clock) -> None:
    clock.now_s += 1


@pytest.mark.parametrize(("end", "said"), [(revoke, "unknown, or was revoked"), (expire, "has expired")])
def test_a_token_that_ends_during_a_call_allows_nothing_more_in_it(
    door: Authenticator, known: Known, clock: Clock, end: Callable[[Known, Clock], None], said: str
) -> None:
    caller = door.authenticate(bearer("fresh"), TCP)
    door.require(caller, Scope.READ)
    end(known, clock)
    with pytest.raises(Unauthenticated, match=said):
        door.require(caller, Scope.READ)


def test_the_local_user_may_ask_for_everything(door: Authenticator) -> None:
    caller = door.authenticate({}, LOCAL)
    for scope in Scope:
        door.require(caller, scope)
