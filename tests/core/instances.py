"""Instances of attrs classes made from their annotations: any, for properties, and the smallest."""

import types
import typing
from typing import Any

import attrs
from hypothesis import strategies as st

from palyra_trio.core.run import RunState

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    str: TEXT,
    int: st.integers(-(2**63), 2**63 - 1),
    bool: st.booleans(),
    type(None): st.none(),
    RunState: st.sampled_from(RunState),
}


def values(annotation: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for the values of a field that is annotated so."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if attrs.has(annotation):
        return instances(annotation)
    if origin is tuple:
        return st.lists(values(arguments[0]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(TEXT, JSON, max_size=3)
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if origin is types.UnionType:
        return st.one_of(*map(values, arguments))
    return SCALARS[annotation]


def instances(cls: type[Any]) -> st.SearchStrategy[Any]:
    """Return a strategy for instances of an attrs class, every field drawn by its type."""
    hints = typing.get_type_hints(cls)
    return st.builds(cls, **{field.name: values(hints[field.name]) for field in attrs.fields(cls)})


def smallest(annotation: Any) -> Any:
    """Return one value of the type, so that an event can be made of its required fields alone."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if attrs.has(annotation):
        return annotation(**required(annotation))
    if origin is typing.Literal:
        return arguments[0]
    if origin is types.UnionType:
        return None
    return RunState.QUEUED if annotation is RunState else (origin or annotation)()


def required(cls: type[Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {f.name: smallest(hints[f.name]) for f in attrs.fields(cls) if f.default is attrs.NOTHING}
