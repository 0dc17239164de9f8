"""Frozen dataclasses from JSON, strictly: the other way of `dataclasses.asdict`."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from farm.errors import InputError, shown

T = TypeVar("T")


def decoded(kind: type[T], value: Any, where: str = "") -> T:
    """`value` as a `kind`: a dataclass, a tuple, a mapping, or what JSON has itself.

    Raises:
        InputError: a field is missing, unknown or of another type; says which.
    """
    try:
        found: T = _decoded(kind, value, "")
        return found
    except _Unfit as error:
        raise InputError(str(error), where) from None


_TOO_LARGE = float("inf")

_hints = functools.cache(typing.get_type_hints)


class _Unfit(Exception):
    pass


def _decoded(kind: Any, value: Any, at: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin in (types.UnionType, typing.Union):
        return _one_of(arguments, value, at)
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, value, at)
    if origin is tuple:
        return _tuple(arguments, value, at)
    if origin in (dict, Mapping):
        _must(isinstance(value, dict), "a mapping", value, at)
        return {name: _decoded(arguments[1], one, f"{at}.{name}") for name, one in value.items()}
    if kind is float:
        _must(type(value) in (int, float) and abs(value) < _TOO_LARGE, "a number", value, at)
        return float(value)
    _must(type(value) is kind, kind.__name__, value, at)
    return value


def _dataclass(kind: Any, value: Any, at: str) -> Any:
    _must(isinstance(value, dict), f"a mapping ({kind.__name__})", value, at)
    hints, fields = _hints(kind), {one.name: one for one in dataclasses.fields(kind)}
    if unknown := sorted(set(value) - set(fields)):
        raise _Unfit(f"{at.lstrip('.') or 'it'} has {unknown[0]!r}, which {kind.__name__} has not")
    for name, field in fields.items():
        missing = dataclasses.MISSING
        if name not in value and field.default is missing and field.default_factory is missing:
            raise _Unfit(f"{f'{at}.{name}'.lstrip('.')!r} is missing")
    return kind(**{name: _decoded(hints[name], one, f"{at}.{name}") for name, one in value.items()})


def _tuple(kinds: tuple[Any, ...], value: Any, at: str) -> tuple[Any, ...]:
    _must(isinstance(value, list), "a list", value, at)
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    _must(len(kinds) == len(value), f"a list of {len(kinds)}", value, at)
    pairs = zip(kinds, value, strict=True)
    return tuple(_decoded(kind, one, f"{at}[{i}]") for i, (kind, one) in enumerate(pairs))


def _one_of(kinds: tuple[Any, ...], value: Any, at: str) -> Any:
    """The first that fits; where none does, what the last one said."""
    if value is None and type(None) in kinds:
        return None
    said = _Unfit(f"{at.lstrip('.')}: null is not expected")
    for kind in kinds:
        if kind is not type(None):
            try:
                return _decoded(kind, value, at)
            except _Unfit as error:
                said = error
    raise said


def _must(holds: bool, expected: str, value: Any, at: str) -> None:
    if not holds:
        raise _Unfit(f"{at.lstrip('.') or 'it'}: expected {expected}, not {shown(value)}")
