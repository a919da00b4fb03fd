"""The transports that a test of calls is run over."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import attrs
import pytest

from palyra_trio.wire.limits import Limits
from tests.wire import echo, quic

Pair = Callable[..., AbstractAsyncContextManager[tuple[Any, Any]]]


@attrs.frozen
class Transport:
    """`pair` connects our client to our server; `windows` are the windows' worth that travels ahead of a reader."""

    pair: Pair
    windows: int

    def ahead_bytes(self, limits: Limits) -> int:
        return self.windows * limits.stream_window_bytes + limits.send_buffer_bytes


# QUIC keeps what is sent until it is acknowledged, so its sender holds a window of its own.
H2, H3 = Transport(echo.pair, 1), Transport(quic.pair, 2)

over_both = pytest.mark.parametrize("over", [H2, H3], ids=["h2", "h3"])
