"""JSON from files that anyone may have written: of a bounded size, with finite numbers, and as
frozen dataclasses."""

from __future__ import annotations

import errno
import json
import math
import os
import stat
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from farm.errors import InputError, shown

if TYPE_CHECKING:
    from pydantic import TypeAdapter
    from pydantic_core import ErrorDetails

T = TypeVar("T")

MOST_BYTES = 64 << 20

_DEEPEST = 100
"""Levels of lists and mappings: whatever walks through them later has recursion to spare."""


def read(path: Path, most: int = MOST_BYTES) -> Any:
    """The value in the file.

    Raises:
        OSError: not there, or no regular file (a pipe would be waited for without end).
        ValueError: not UTF-8, not JSON, NaN or infinite, nested too deeply, or over `most` bytes.
    """
    return parse(read_bytes(path, most))


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """The content of a regular file. Raises OSError, and ValueError for one over `most` bytes."""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"larger than {most} bytes")
    return data


def parse(data: bytes) -> Any:
    """The value of JSON text. Raises ValueError, as `read` does."""
    try:
        value = json.loads(data.decode(), parse_float=_finite, parse_constant=_finite)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    level = [value]
    for _ in range(_DEEPEST):
        level = [one for holder in level for one in _inside(holder)]
        if not level:
            return value
    raise ValueError("nested too deeply")


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:40]} is not finite")
    return value


def decode(kind: type[T], value: Any, where: str = "") -> T:
    """Return JSON as a frozen dataclass, strictly: the other way of `dataclasses.asdict`.

    where: the file that errors name.

    Raises:
        InputError: a field is missing, unknown, of another type, or not finite; says which.
    """
    from pydantic import ValidationError

    for path, number in _numbers(value, ()):
        if not _representable(number):
            message = f"{_name(path)}: expected a finite number, not {shown(number)}"
            raise InputError(message, where)
    try:
        # Strict validation takes lists for tuples from JSON text alone.
        adapter = _adapter(kind)  # type: ignore[arg-type]  # mypy: a type is hashable
        found: T = adapter.validate_json(json.dumps(value), strict=True, extra="forbid")
        return found
    except ValidationError as error:
        wrong = error.errors(include_url=False)
        unknown = (one for one in wrong if one["type"] == _UNKNOWN)
        message = _explained(next(unknown, wrong[0]), kind, value)
        raise InputError(message, where) from None


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


_UNKNOWN = "unexpected_keyword_argument"
"""As pydantic calls it. Reported first: the fields that are missing follow from it."""


def _numbers(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[Any, int | float]]:
    if isinstance(value, int | float):
        yield path, value
    elif isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for name, inner in items:
            yield from _numbers(inner, (*path, name))


def _representable(number: int | float) -> bool:
    """Whether a float holds it: an integer of 309 digits would become infinite."""
    try:
        return math.isfinite(number)
    except OverflowError:
        return False


def _name(path: Iterable[str | int]) -> str:
    return shown(".".join(map(str, path))) if path else "the value"


def _explained(details: ErrorDetails, kind: type, value: Any) -> str:
    """Say what pydantic found wrong, by the path in the JSON: without the names of classes."""
    path: list[str | int] = []
    for part in details["loc"]:
        inner = _inner(value, part)
        if inner is not _ABSENT:
            value = inner
            path.append(part)
    if details["type"] == "missing":
        return f"{_name([*path, details['loc'][-1]])} is missing"
    if details["type"] == _UNKNOWN:
        return f"{kind.__name__} has no field {_name(path)}"
    expected = details["msg"].replace("Input should be", "expected")
    return f"{_name(path)}: {expected}, not {shown(details['input'])}"


_ABSENT = object()


def _inner(value: Any, part: str | int) -> Any:
    if isinstance(value, dict):
        return value.get(part, _ABSENT)
    if isinstance(value, list) and isinstance(part, int) and part < len(value):
        return value[part]
    return _ABSENT
