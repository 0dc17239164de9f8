"""JSON from files that anyone may have written: whole, of a bounded size, with finite numbers."""

from __future__ import annotations

import errno
import json
import math
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

MOST_BYTES = 64 << 20

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
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"larger than {most} bytes")
    return data


def parse(data: bytes) -> Any:
    """Return the value of JSON text.

    Raises:
        ValueError: not UTF-8, not JSON, NaN or infinite, or nested too deeply.
    """
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
