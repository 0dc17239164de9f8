"""Sizes, times and shapes as the farm writes them: `1GiB`, `1m15s`, `1x3x800x1216`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Dims:
    """The extent of an input batch: images x channels x height x width, in pixels."""

    n: int
    c: int
    h: int
    w: int

    def __str__(self) -> str:
        return f"{self.n}x{self.c}x{self.h}x{self.w}"

    def as_tuple(self) -> tuple[int, int, int, int]:
        return (self.n, self.c, self.h, self.w)


UNITS = {"B": 1}
UNITS |= {f"{p}B": 1000**i for i, p in enumerate("KMGT", 1)}
UNITS |= {f"{p}iB": 1024**i for i, p in enumerate("KMGT", 1)}
"""The bytes of each unit of size."""


def format_bytes(count: int) -> str:
    """The shortest exact binary size: 1073741824 -> `'1GiB'`."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if count and count % UNITS[unit] == 0:
            return f"{count // UNITS[unit]}{unit}"
    return f"{count}B"


def format_seconds(seconds: float) -> str:
    """`75.0` -> `'1m15s'`; below a minute one digit after the point."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s"
