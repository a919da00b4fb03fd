"""The file that the scripted provider plays: its format, and the strict reading of it.

A script is a JSON object; every field but `turns` may be left out, and a field that is not listed here is a fault.

    {"loop": false,              true: after the last turn comes the first again
     "turns": [{
       "text": "Hello",          the answer's text; streamed as one delta unless `deltas` or `repeat` says otherwise
       "deltas": ["Hel", "lo"],  the pieces it is streamed in; with `text` they must add up to it
       "repeat": {"text": "0123456789abcdef", "times": 1000000},
                                 instead of both: a stream of any length that takes no memory. The reply that ends
                                 it leaves the text out: it is the deltas'
       "calls": [{"tool": "files.read", "arguments": {"path": "README.md"}, "call_id": "call_0_0"}],
                                 the default id is `call_{turn}_{place}`, unique within a run
       "finish": "stop",         stop | tool_calls | length | refusal | other; the default fits `calls`
       "usage": {"input_tokens": 10, "cached_input_tokens": 0, "output_tokens": 2},
       "pause_s": 0.1,           before the turn
       "delta_pause_s": 0.02,    before each delta but the first
       "hang": false,            true: after the deltas comes nothing, for ever, instead of the reply
       "error": {"kind": "overloaded", "message": "no room", "retryable": true, "retry_after_s": 0,
                 "after_deltas": 0, "times": 1}
                                 raised after so many deltas, the first `times` times that this provider object
                                 plays the turn; `kind` is one of `base.FailureKind`
     }]}
"""

from collections.abc import Callable, Iterable
from itertools import repeat
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import attrs
import cattrs
import msgspec
from attrs.validators import ge, min_len
from cattrs import BaseConverter
from cattrs.cols import homogenous_tuple_structure_factory
from cattrs.errors import BaseValidationError
from cattrs.gen import make_dict_structure_fn

from palyra_trio.core.errors import ConfigInvalid
from palyra_trio.core.messages import FinishReason, Usage
from palyra_trio.providers.base import FailureKind, ProviderError

_Hook = Callable[[Any, Any], Any]
_JSON_NAMES: dict[type, str] = {
    str: "a string",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}


@attrs.frozen
class ScriptedCall:
    tool: str
    arguments: dict[str, Any] = attrs.Factory(dict)
    call_id: str = ""


@attrs.frozen
class ScriptedError:
    kind: FailureKind
    message: str
    retryable: bool = False
    retry_after_s: float = attrs.field(default=0.0, validator=ge(0))
    after_deltas: int = attrs.field(default=0, validator=ge(0))
    times: int = attrs.field(default=1, validator=ge(1))

    def exception(self) -> ProviderError:
        return ProviderError(self.kind, self.message, retryable=self.retryable, retry_after_s=self.retry_after_s)


@attrs.frozen
class Repeat:
    text: str
    times: int = attrs.field(validator=ge(0))


@attrs.frozen
class Turn:
    text: str = ""
    deltas: tuple[str, ...] | None = None
    repeat: Repeat | None = None
    calls: tuple[ScriptedCall, ...] = ()
    finish: FinishReason | None = None
    usage: Usage = Usage()
    pause_s: float = attrs.field(default=0.0, validator=ge(0))
    delta_pause_s: float = attrs.field(default=0.0, validator=ge(0))
    hang: bool = False
    error: ScriptedError | None = None

    def __attrs_post_init__(self) -> None:
        if self.repeat is not None and (self.text or self.deltas):
            raise ValueError("`repeat` stands instead of `text` and `deltas`")
        if self.text and self.deltas is not None and "".join(self.deltas) != self.text:
            raise ValueError("`deltas` do not add up to `text`")

    def pieces(self) -> Iterable[str]:
        """Return what is streamed, piece by piece."""
        if self.repeat is not None:
            return repeat(self.repeat.text, self.repeat.times)
        if self.deltas is not None:
            return self.deltas
        return (self.text,) if self.text else ()

    def whole(self) -> str:
        """Return the text of the reply."""
        return self.text or "".join(self.deltas or ())


@attrs.frozen
class Script:
    turns: tuple[Turn, ...] = attrs.field(validator=min_len(1))
    loop: bool = False

    def __attrs_post_init__(self) -> None:
        ids = [call.call_id for turn in self.turns for call in turn.calls if call.call_id]
        if len(set(ids)) < len(ids) or (ids and self.loop):
            raise ValueError("a `call_id` would come twice in one run; leave it out")


def load_script(path: Path) -> Script:
    """Return the script in the file `path`. Raises ConfigInvalid: it cannot be read, or every fault in it."""
    try:
        return parse_script(path.read_bytes(), str(path))
    except OSError as error:
        raise ConfigInvalid(
            f"the script {path} cannot be read: {error.strerror}", remedy="name the model scripted/FILE"
        ) from error


def parse_script(data: bytes, place: str) -> Script:
    """Return the script that the JSON text `data` says. Raises ConfigInvalid naming every fault and its place."""
    try:
        return _CONVERTER.structure(msgspec.json.decode(data), Script)
    except (ValueError, RecursionError) as error:
        raise ConfigInvalid(f"the script {place} is not JSON: {error}") from error
    except (BaseValidationError, TypeError) as error:
        faults = cattrs.transform_error(error, path="script", format_exception=_fault)
        raise ConfigInvalid(f"the script {place} has {len(faults)} faults: {'; '.join(faults)}") from error


def _converter() -> cattrs.Converter:
    """Return a converter that takes JSON values for what they are: nothing is coerced, no key is ignored."""
    converter = cattrs.Converter(forbid_extra_keys=True)
    for kind in (str, int, bool):
        converter.register_structure_hook(kind, _only(kind))
    converter.register_structure_hook(float, _only(float, int))
    converter.register_structure_hook_factory(_is(Literal), _one_of)
    converter.register_structure_hook_factory(_is(dict), lambda kind: _only(dict))
    converter.register_structure_hook_factory(_is(tuple), _list_of)
    converter.register_structure_hook_factory(attrs.has, _object_of)
    return converter


def _is(origin: Any) -> Callable[[Any], bool]:
    return lambda kind: get_origin(kind) is origin


def _one_of(kind: Any) -> _Hook:
    def structure(value: Any, _: Any) -> Any:
        if value not in get_args(kind):
            raise ValueError(f"must be one of {', '.join(get_args(kind))}")
        return value

    return structure


def _list_of(kind: Any, converter: BaseConverter) -> _Hook:
    return _only(list, then=homogenous_tuple_structure_factory(kind, converter))


def _object_of(kind: Any, converter: BaseConverter) -> _Hook:
    return _only(dict, then=make_dict_structure_fn(kind, converter, _cattrs_forbid_extra_keys=True))


def _only(*accepted: type, then: _Hook = lambda value, _: value) -> _Hook:
    def structure(value: Any, kind: Any) -> Any:
        if type(value) not in accepted:
            raise TypeError(f"must be {_JSON_NAMES[accepted[0]]}")
        return then(value, kind)

    return structure


def _fault(error: BaseException, _: type | None) -> str:
    match error:
        case KeyError():
            return "is missing"
        case cattrs.ForbiddenExtraKeysError():
            return f"unknown field {', '.join(map(repr, sorted(error.extra_fields)))}"
        case _:
            return str(error.args[0] if error.args else error)


_CONVERTER = _converter()
