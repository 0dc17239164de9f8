"""JSON from files that anyone may have written: of a bounded size, with finite numbers, and decoded
strictly into frozen dataclasses."""

from __future__ import annotations

import errno
import functools
import json
import math
import os
import re
import stat
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from farm.errors import InputError, shown

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")

MOST_BYTES = 64 << 20

_SURROGATE = re.compile("[\ud800-\udfff]")

_DEEPEST = 100
"""Levels of lists and mappings: whatever walks through them later has recursion to spare."""


def read(path: Path, most: int = MOST_BYTES) -> Any:
    """Return the value in the file. most: the largest size, in bytes.

    Raises:
        OSError: it cannot be read, or is no regular file (reading a pipe might never end).
        ValueError: not UTF-8, not JSON, NaN or infinite, nested too deeply, or over `most` bytes.
    """
    return parse(read_bytes(path, most))


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """Return the content of a regular file.

    Raises:
        OSError: it cannot be read, or is no regular file.
        ValueError: it is over `most` bytes.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        parts = list[bytes]()
        left = most + 1
        while left and (part := os.read(descriptor, min(left, max(status.st_size, 1 << 16)))):
            parts.append(part)
            left -= len(part)
    finally:
        os.close(descriptor)
    if not left:
        raise ValueError(f"larger than {most} bytes")
    return b"".join(parts)


def parse(data: bytes) -> Any:
    """Return the value of JSON text.

    Raises:
        ValueError: not UTF-8, not JSON, NaN or infinite, or nested too deeply.
    """
    try:
        value = json.loads(data.decode(), parse_float=_finite, parse_constant=_finite)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if data.count(b"[") + data.count(b"{") <= _DEEPEST:  # as in most files: they need no walk
        return value
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
    """Return `value`, parsed JSON, as a `kind`: a dataclass, the other way of `asdict`.

    Nothing is converted but numbers to float and lists to tuples. A half of a surrogate pair, which
    no file of ours can hold, becomes its escape.

    Raises:
        InputError: a field is missing, unknown or of another type; says which. `where`: the file.
    """
    from pydantic import ValidationError

    known = adapter(cast(Hashable, kind))
    text = json.dumps([value], ensure_ascii=False)
    if not text.isascii():
        text = _SURROGATE.sub(lambda one: f"\\\\u{ord(one[0]):04x}", text)
    try:
        found: T = known.validate_json(text)[0]
    except ValidationError as error:
        raise InputError(_reason(error.errors()[0]), where) from None
    return found


@functools.cache
def adapter(kind: Any) -> TypeAdapter[Any]:
    """Return what decodes lists of a kind.

    Of a list, since an adapter's settings reach the dataclasses inside a type, not the type itself.
    """
    from pydantic import ConfigDict, TypeAdapter

    config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
    return TypeAdapter(list[kind], config=config)


def _reason(error: Any) -> str:
    """What pydantic says of the first wrong value, with the value's path from the top."""
    parts = error["loc"][1:]
    name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    name = name.lstrip(".") or "it"
    if error["type"] == "missing":
        return f"{name!r} is missing"
    if error["type"] == "unexpected_keyword_argument":
        return f"{name!r} is not known"
    expected = error["msg"].replace("Input should be", "expected", 1)
    return f"{name}: {expected}, not {shown(error['input'])}"
