"""A form as a page of ours sends it: a few fields, urlencoded. Read so that whoever sends another kind holds up nobody else.

How long a body may be, `site` says; what the fields mean, the pages know.
"""

from urllib.parse import parse_qsl

import trio

from palyra_trio.core.errors import TooLarge

FIELDS = 1000  # an agent's form has one for each tool
AT_ONCE_BYTES = 64 * 1024  # that are read on the spot; a longer form takes a thread, one at a time


class FormReader:
    """Reads the forms of one site."""

    def __init__(self) -> None:
        self._thread = trio.CapacityLimiter(1)

    async def read(self, body: bytes) -> dict[str, str]:
        """Return the first value of each field. Raises TooLarge for too many fields."""
        if len(body) <= AT_ONCE_BYTES:
            return _fields(body)
        return await trio.to_thread.run_sync(_fields, body, limiter=self._thread)


def _fields(body: bytes) -> dict[str, str]:
    try:
        said = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=FIELDS)
    except ValueError as error:
        raise TooLarge(f"a form has {FIELDS} fields at most", remedy="send the form of a page") from error
    return dict(reversed(said))
