"""What every model provider offers, and how it fails.

A provider turns a `ModelRequest` into a stream: any number of `ModelDelta`, then exactly one `ModelReply`. It keeps
no conversation, records nothing and retries nothing; the caller does all three.
"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import ClassVar, Literal, Protocol, runtime_checkable

from palyra_trio.core.errors import ProviderFailed
from palyra_trio.core.messages import ModelDelta, ModelReply, ModelRequest

FailureKind = Literal[
    "auth",  # the key is missing, wrong or expired
    "rate_limited",
    "quota",
    "overloaded",  # 5xx
    "network",  # no connection, or it broke
    "idle",  # the stream went silent
    "malformed",  # the answer is not in the wire format
    "context_window",
    "refused",  # content policy
    "bad_request",
    "not_understood",  # the offline provider's rules do not cover the prompt
]


class ProviderError(ProviderFailed):
    """A model call failed. `retryable` says whether the same request may succeed later, `retry_after_s` how much later.

    Raised before the first delta or after any number of them.
    """

    code: ClassVar[str] = "provider_failed"

    def __init__(
        self, kind: FailureKind, message: str, *, retryable: bool = False, retry_after_s: float = 0.0, remedy: str = ""
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.kind = kind
        self.retryable = retryable
        self.retry_after_s = retry_after_s


ModelStream = AsyncIterator[ModelDelta | ModelReply]


class Provider(Protocol):
    """One configured way to reach models.

    `stream` is `async with provider.stream(request) as events: async for event in events: ...`. Leaving the block,
    by cancellation too, drops the request: its connection is closed and nothing of it is left behind. Raises
    `ProviderError`, and nothing else, from entering or from iterating.
    """

    @property
    def name(self) -> str:
        """The provider's part of `provider/model`, such as `openai` or `offline`."""
        ...

    def stream(self, request: ModelRequest) -> AbstractAsyncContextManager[ModelStream]: ...


@runtime_checkable
class ListsModels(Protocol):
    """A provider whose server says which models it has."""

    async def list_models(self) -> tuple[str, ...]:
        """Return the names of models as the server lists them. Raises ProviderError."""
        ...
