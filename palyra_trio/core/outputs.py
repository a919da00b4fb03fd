"""What a program wrote, as one text: told apart by stream, shown by its edges, kept by the piece.

Pure. What is redacted of it was so before it comes here; where the pieces go is said by OutputKept.
"""

from typing import ClassVar

import attrs

from palyra_trio.core.tape import TapeEvent


@attrs.frozen
class OutputKept(TapeEvent):
    """The next piece of a call's output: blob `output`, of `size_bytes`.

    The pieces of a call, in the order of the tape, are all that its program wrote, as it is after redaction. One that
    wrote little has none: ToolFinished tells it whole.
    """

    kind: ClassVar[int] = 43
    call_id: str
    output: str
    size_bytes: int
    v: int = 1


class Transcript:
    """The output of a program in the order in which it was read: a line `[stdout]` or `[stderr]` begins each change of stream.

    Of a long one only the edges are kept, `most` characters together, and what `piece` has not handed on.
    """

    def __init__(self, most: int) -> None:
        self.size_bytes = 0
        self._half = most // 2
        self._characters = 0
        self._head = ""
        self._tail = ""
        self._stream = ""
        self._line_open = False
        self._unkept = bytearray()

    @property
    def whole(self) -> bool:
        """Whether `excerpt` tells all of it."""
        return self._characters <= 2 * self._half

    def add(self, stream: str, text: str) -> None:
        if not text:
            return
        if stream != self._stream:
            self._stream = stream
            text = f"{'' if not self._line_open else chr(10)}[{stream}]\n{text}"
        self._line_open = not text.endswith("\n")
        data = text.encode()
        self.size_bytes += len(data)
        self._unkept += data
        self._characters += len(text)
        room = self._half - len(self._head)
        self._head += text[:room]
        self._tail += text[room:]
        if len(self._tail) > 2 * self._half:
            self._tail = self._tail[-self._half :]

    @property
    def unkept_bytes(self) -> int:
        """How much was added since the last piece."""
        return len(self._unkept)

    def piece(self) -> bytes:
        """Return what was added since the last piece, and forget it."""
        piece = bytes(self._unkept)
        self._unkept.clear()
        return piece

    def excerpt(self) -> str:
        """Return the text without the end of its last line, or its beginning and its end and how much is between them."""
        tail = self._tail[-self._half :]
        missing = self._characters - len(self._head) - len(tail)
        between = f"\n[… {missing} characters left out …]\n" if missing else ""
        return f"{self._head}{between}{tail}".removesuffix("\n")
