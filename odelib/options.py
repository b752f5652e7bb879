"""Options: frozen values that refuse nonsense. Each kind stands with what it steers."""

import math
import numbers
import reprlib
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeVar, get_args, get_origin

from odelib.errors import OptionError

Kind = TypeVar("Kind", bound="Options")


@dataclass(frozen=True)
class Options:
    """Base of `Solver`, `Network`, `Training`, `Selection`, and of `Config`, which is all of them.

    A field takes values of its annotated type: a whole number also where a float is asked for (lr=1 is lr=1.0), numbers
    of numpy too (but where the annotation lists choices), floats that are finite, whole numbers of at most 64 bits,
    strings that are printable and not empty. What else must hold a subclass says in `_check`. Raises OptionError.
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

    def _must_be_at_most(self, most: int, *names: str) -> None:
        for name in names:
            if getattr(self, name) > most:
                raise OptionError(f"{name} must be at most {most}, got {getattr(self, name)}")

    def _must_be_a_share(self, *names: str) -> None:
        for name in names:
            if not 0 <= getattr(self, name) < 1:
                raise OptionError(f"{name} must be at least 0 and below 1, got {getattr(self, name)}")


_KINDS = {bool: "true or false", int: "a whole number", float: "a finite number", str: "a text that is not empty"}


def _fitted(name: str, value: Any, kind: Any) -> Any:
    """The value of a field as its type wants it. Raises OptionError where it does not fit."""
    allowed = get_args(kind)
    if get_origin(kind) is Literal:
        if not any(type(value) is type(choice) and value == choice for choice in allowed):
            raise OptionError(f"unknown {name} {_shown(value)}; choose from {', '.join(map(str, allowed))}")
        return value
    if get_origin(kind) is tuple:  # tuple[int, ...]
        if not isinstance(value, (tuple, list)):
            raise OptionError(f"{name} must be several values in a row, got {_shown(value)}")
        return tuple(_fitted(name, part, allowed[0]) for part in value)
    if type(None) in allowed:  # float | None
        return None if value is None else _fitted(name, value, allowed[0])
    found = value
    number: type | None = {int: numbers.Integral, float: numbers.Real}.get(kind)
    if number and isinstance(value, number) and type(value) is not bool:
        with suppress(ArithmeticError, ValueError):  # a fraction of huge numbers, say, has no float
            found = kind(value)
    fits = type(found) is kind and (kind is not float or math.isfinite(found)) and (kind is not str or found.strip())
    if not fits:
        raise OptionError(f"{name} must be {_KINDS[kind]}, got {_shown(value)}")
    if kind is int and not -(2**63) <= found < 2**63:
        raise OptionError(f"{name} must have at most 64 bits, got {_shown(value)}")
    if kind is str and not found.isprintable():  # a record could not be written, or not be shown
        raise OptionError(f"{name} must be a printable text, got {_shown(value)}")
    return found


def _shown(value: Any) -> str:
    """A value as a message names it; some are too long, and Python does not even write out the largest numbers."""
    with suppress(Exception):
        return reprlib.repr(value)
    return f"one of type {type(value).__name__}"
