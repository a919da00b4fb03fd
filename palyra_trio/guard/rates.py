"""How often a token may ask: a bucket for each token and kind of request, which fills up again as time goes by.

A bucket holds what may be asked in one second, so whoever was refused may ask again a second later. Starting, stopping
and deciding have none: they are bounded where they have their effect, and a stop must always get in. Nothing waits here,
and the user of this machine, who needs no token, is not counted.
"""

import attrs

from palyra_trio.core.config import RatesConfig
from palyra_trio.core.errors import Busy
from palyra_trio.core.identity import Caller, Scope

BUCKETS_KEPT = 10_000  # past this all are dropped: whoever had used theirs up gets one second's worth more


@attrs.define
class _Bucket:
    left: float
    at_s: float


class Rates:
    """The buckets of one process."""

    def __init__(self) -> None:
        self._buckets: dict[tuple[str, Scope], _Bucket] = {}

    def take(self, caller: Caller, scope: Scope, limits: RatesConfig, now_s: float) -> None:
        """Count a request that needs `scope`. `now_s` is of a clock that does not go back. Raises Busy; that one is not counted."""
        per_s = {Scope.ADMIN: limits.admin_per_s, Scope.READ: limits.reads_per_s}.get(scope)
        if per_s is None or not caller.token_id:
            return
        if len(self._buckets) >= BUCKETS_KEPT:
            self._buckets.clear()
        bucket = self._buckets.setdefault((caller.token_id, scope), _Bucket(per_s, now_s))
        bucket.left = min(per_s, bucket.left + (now_s - bucket.at_s) * per_s)
        bucket.at_s = now_s
        if bucket.left < 1:
            raise Busy(
                f"token {caller.token_id} has asked {per_s} times within a second for what needs the scope {scope}",
                remedy="ask again in a second, or raise rates.admin_per_s or rates.reads_per_s",
            )
        bucket.left -= 1
