"""Strict JSON: what every reader of JSON understands, and understands alike; and dataclasses that are made of it."""

import json
from collections import Counter
from functools import partial
from typing import Any, TypeVar

import dacite

from odelib.errors import in_one_line

T = TypeVar("T")


def dumps(values: Any, indent: int | None = None) -> str:
    """JSON text. Raises ValueError for numbers that JSON has no words for, NaN and infinity."""
    return json.dumps(values, indent=indent, allow_nan=False)


def loads(text: str) -> dict[str, Any]:
    """The fields of a JSON object. Raises ValueError, also for what Python's reader lets pass.

    That is NaN and infinity, however they are written, whole numbers beyond 64 bits, a key that comes twice, half of a
    surrogate pair, and lists in lists without end.
    """
    try:
        values = json.loads(text, object_pairs_hook=_unique, parse_int=_whole_number)
        json.dumps(values, allow_nan=False, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(values, dict):
        raise ValueError("it is no JSON object")
    return values


def as_dataclass(kind: type[T], values: dict[str, Any]) -> T:
    """A dataclass whose fields have these values, lists for tuples. Raises ValueError, which names the field where its
    type is wrong, but for tuples."""
    try:
        return dacite.from_dict(kind, values, _EXACT)  # type: ignore[type-var]  # of dacite alone
    except (dacite.DaciteError, TypeError, AttributeError) as error:
        raise ValueError(in_one_line(error)) from error


def _number(kind: type, value: Any) -> Any:
    if isinstance(value, bool):  # a whole number to Python
        raise dacite.WrongTypeError(kind, value)
    return value


_EXACT = dacite.Config(
    strict=True, cast=[tuple], type_hooks={int: partial(_number, int), float: partial(_number, float)}
)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    twice = [key for key, n in Counter(key for key, _ in pairs).items() if n > 1]
    if twice:
        raise ValueError(f"the key {twice[0]!r} comes twice")
    return dict(pairs)


def _whole_number(digits: str) -> int:
    if len(digits) > 20 or not -(2**63) <= int(digits) < 2**63:
        raise ValueError(f"the whole number {digits[:20]}... is beyond 64 bits")
    return int(digits)
