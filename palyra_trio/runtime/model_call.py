"""One model call: stream, record the deltas as they arrive, retry what failed before the first of them.

Deltas gather while the commit of the ones before them is under way, so the disk sets the pace and no timer does.
What the model says is redacted before anything else sees it.
"""

import trio

from palyra_trio.core.chain import canonical_json
from palyra_trio.core.messages import Message, ModelDelta, ModelReply, ModelRequest, ToolCall, ToolDefinition
from palyra_trio.core.tape import ModelDelta as DeltaEvent
from palyra_trio.core.tape import ProviderAttempt
from palyra_trio.core.tape import ProviderError as ErrorEvent
from palyra_trio.core.text import clean
from palyra_trio.guard.redactor import StreamRedactor
from palyra_trio.providers.base import ProviderError
from palyra_trio.runtime.runs import Run

GATHER_BYTES = 256 * 1024  # beyond this a stream waits for the disk
TURN_TEXT_BYTES = 4 * 1024 * 1024  # a longer turn stays whole as deltas, and is cut in its ModelTurn
BACK_OFF_S = 0.5
BACK_OFF_MAX_S = 30.0


async def call_model(run: Run, turn: int, tools: tuple[ToolDefinition, ...]) -> ModelReply | ErrorEvent:
    """Return the model's turn, redacted; its deltas are on their way to the tape before it. Or how it failed, for good.

    A cancel drops the request; deltas that arrived may still be recorded.
    """
    messages = (*run.context, *run.view.messages)
    request = ModelRequest(run.order.choice.model, messages, tools, await _attachments(run, messages))
    attempts = run.order.config.model.attempts
    for attempt in range(1, attempts + 1):
        deltas = _Deltas(run, turn)
        try:
            return await _stream(run, request, deltas)
        except ProviderError as error:
            deltas.flush()
            too_late = error.retry_after_s > run.order.input.agent.limits.active_s
            if not error.retryable or too_late or deltas.any or attempt == attempts:
                message = run.state.redactor.recordable(error.message)
                return ErrorEvent(turn, error.kind, message, error.remedy)
            wait_s = _back_off_s(attempt, error.retry_after_s, run.state.jitter())
            message = run.state.redactor.recordable(error.message)
            await run.record(ProviderAttempt(turn, attempt, error.kind, message, int(wait_s * 1000)))
        await trio.sleep(wait_s)
    raise AssertionError("the last attempt returns")


async def _stream(run: Run, request: ModelRequest, deltas: "_Deltas") -> ModelReply:
    async with run.order.choice.provider.stream(request) as events:
        async for event in events:
            if isinstance(event, ModelDelta):
                await deltas.add(event.text)
            else:
                text = deltas.end() if deltas.any else run.state.redactor.recordable(event.text)
                calls = tuple([_safe(run, call) for call in event.calls])
                return ModelReply(text, calls, event.finish, event.usage, event.model)
    raise ProviderError("malformed", "the stream ended without a reply")


def _safe(run: Run, call: ToolCall) -> ToolCall:
    """Return the call as it may be recorded: redacted (which bounds its depth), or malformed where JSON cannot hold it."""
    redactor = run.state.redactor
    safe = ToolCall(
        call.call_id,
        call.tool,
        redactor.value(call.arguments),
        redactor.recordable(call.malformed) if call.malformed else "",
    )
    try:
        canonical_json(safe)
    except (UnicodeEncodeError, TypeError):
        return ToolCall(clean(call.call_id), clean(call.tool), malformed="arguments that are not valid Unicode")
    return safe


async def _attachments(run: Run, messages: tuple[Message, ...]) -> dict[str, bytes]:
    digests = {attachment.digest for message in messages for attachment in message.attachments}
    if not digests:
        return {}
    return await run.state.readers.ask(lambda reader: {digest: reader.blob(digest) for digest in digests})


def _back_off_s(attempt: int, retry_after_s: float, jitter: float) -> float:
    """Return how long to wait: what the server asked for, else exponential with full jitter (AWS, 2015)."""
    longest = min(BACK_OFF_S * (1 << attempt), BACK_OFF_MAX_S)
    return max(retry_after_s, longest * jitter)


class _Deltas:
    """The deltas of one attempt on their way to the tape, and the text that they make up."""

    def __init__(self, run: Run, turn: int) -> None:
        self.any = False
        self._run = run
        self._turn = turn
        self._redactor: StreamRedactor = run.state.redactor.stream()
        self._gathered: list[str] = []
        self._gathered_bytes = 0
        self._committing = False
        self._room = trio.Event()
        self._text: list[str] = []
        self._room_in_text = TURN_TEXT_BYTES

    async def add(self, text: str) -> None:
        """Take a piece of text; wait when too much of it is not yet durable."""
        self.any = True
        self._take(self._redactor.feed(clean(text)))
        while self._gathered_bytes > GATHER_BYTES:
            self._room = trio.Event()
            await self._room.wait()

    def end(self) -> str:
        """Return the whole text, after the redactor gave up what it held back."""
        self.flush()
        return "".join(self._text)

    def flush(self) -> None:
        """Hand over what the redactor held back, and submit what is gathered."""
        self._take(self._redactor.flush())
        self._submit()

    def _take(self, text: str) -> None:
        if not text:
            return
        self._gathered.append(text)
        self._gathered_bytes += len(text)
        if self._room_in_text > 0:
            self._text.append(text[: self._room_in_text])
            self._room_in_text -= len(text)
        if not self._committing:
            self._submit()

    def _submit(self) -> None:
        if self._gathered:
            self._committing = True
            self._run.submit(DeltaEvent(self._turn, "".join(self._gathered)), then=self._committed)
            self._gathered, self._gathered_bytes = [], 0
            self._room.set()

    def _committed(self) -> None:
        self._committing = False
        self._submit()
