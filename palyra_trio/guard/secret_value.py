"""A secret in memory: a value that does not print, format, compare or pickle by accident. It has to be asked for."""

from typing import NoReturn


class SecretValue:
    """Holds a secret. `reveal()` is the only way to it, so that every place that sees one can be searched for."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "<secret>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled or copied")
