"""Options: frozen values that refuse nonsense. Each kind stands with what it steers."""

import math
import numbers
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeVar, get_args, get_origin

from odelib.errors import OptionError

Kind = TypeVar("Kind", bound="Options")


@dataclass(frozen=True)
class Options:
    """Base of `Solver`, `Network`, `Training`, `Selection`, and of `Config`, which is all of them.

    A field takes values of its annotated type: a whole number also where a float is asked for (lr=1 is lr=1.0), numbers
    of numpy too, floats that are finite, strings that are not empty. What else must hold a subclass says in `_check`.
    Raises OptionError.
    """

    def __post_init__(self) -> None:
        for field in fields(self):
            value = _fitted(field.name, getattr(self, field.name), field.type)
            object.__setattr__(self, field.name, value)  # equal options make equal values: 1 and 1.0, list and tuple
        for kind in type(self).__mro__:
            if "_check" in vars(kind):
                vars(kind)["_check"](self)

    def part(self, kind: type[Kind]) -> Kind:
        """The options of one of the kinds that this value is made of: `config.part(Solver)`."""
        return kind(**{field.name: getattr(self, field.name) for field in fields(kind)})

    def _must_be_positive(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise OptionError(f"{name} must be positive, got {value}")

    def _must_not_be_negative(self, *names: str) -> None:
        for name in names:
            if getattr(self, name) < 0:
                raise OptionError(f"{name} must not be negative, got {getattr(self, name)}")

    def _must_be_a_share(self, *names: str) -> None:
        for name in names:
            if not 0 <= getattr(self, name) < 1:
                raise OptionError(f"{name} must be at least 0 and below 1, got {getattr(self, name)}")


_KINDS = {bool: "true or false", int: "a whole number", float: "a finite number", str: "a text that is not empty"}


def _fitted(name: str, value: Any, kind: Any) -> Any:
    """The value of a field as its type wants it. Raises OptionError where it does not fit."""
    allowed = get_args(kind)
    if get_origin(kind) is Literal:
        if not any(value == choice and type(value) is type(choice) for choice in allowed):
            raise OptionError(f"unknown {name} {value!r}; choose from {', '.join(map(str, allowed))}")
        return value
    if get_origin(kind) is tuple:  # tuple[int, ...]
        if not isinstance(value, (tuple, list)):
            raise OptionError(f"{name} must be several values in a row, got {value!r}")
        return tuple(_fitted(name, part, allowed[0]) for part in value)
    if type(None) in allowed:  # float | None
        return None if value is None else _fitted(name, value, allowed[0])
    number: type | None = {int: numbers.Integral, float: numbers.Real}.get(kind)
    if number and isinstance(value, number) and type(value) is not bool:
        value = kind(value)
    fits = type(value) is kind and (kind is not float or math.isfinite(value)) and (kind is not str or value.strip())
    if not fits:
        raise OptionError(f"{name} must be {_KINDS[kind]}, got {value!r}")
    return value
