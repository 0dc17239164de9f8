"""Parse sizes, shapes, times and numbers as people write them: `1GiB`, `800x1216`, `1h30m`."""

from __future__ import annotations

import re

from farm.errors import shown
from farm.specs import Dims
from farm.units import UNITS


def parse_bytes(text: str) -> int:
    """`'1.5GiB'` -> 1610612736. Raises ValueError for a number without a unit."""
    match = re.fullmatch(r"\s*(\d{1,30}(?:\.\d{1,30})?)\s*([KMGT]i?B|B)\s*", str(text))
    if not match:
        raise ValueError(f"{shown(text)} is not a size with a unit; write 512MiB or 1GiB")
    size = float(match[1]) * UNITS[match[2]]
    if not 1 <= size < 2**60:
        raise ValueError(f"{shown(text)} is no size that a machine has; write 512MiB or 1GiB")
    return int(size)


def parse_dims(text: str) -> Dims:
    """`HxW` (one image, three channels) or `NxCxHxW`. Raises ValueError otherwise."""
    parts = str(text).strip().lower().split("x")
    if len(parts) not in (2, 4) or not all(re.fullmatch(r"[1-9]\d{0,9}", part) for part in parts):
        raise ValueError(
            f"{shown(text)} is not a shape; write HxW (800x1216) or NxCxHxW (1x3x800x1216)"
        )
    numbers = [int(part) for part in parts]
    return Dims(1, 3, *numbers) if len(numbers) == 2 else Dims(*numbers)


def parse_seconds(text: str) -> float:
    """`'1h30m'` -> 5400.0. Raises ValueError for a number without a unit, and for a time of 0."""
    pattern = r"(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,6}(?:\.\d{1,9})?)s)?"
    found = re.fullmatch(pattern, str(text).strip())
    hours, minutes, seconds = (float(part or 0) for part in (found.groups() if found else "000"))
    total = 3600 * hours + 60 * minutes + seconds
    if not 0 < total < 1e9:
        raise ValueError(f"{shown(text)} is not a time; write 90s, 5m, 2h or 1h30m")
    return total


def number(text: str) -> float:
    """Parse a finite number of at least 0.

    Raises:
        ValueError: it is none.
    """
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError(text)
    return value
