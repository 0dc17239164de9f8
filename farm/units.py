"""Sizes and times as the farm writes them: `1GiB`, `1m15s`."""

from __future__ import annotations

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
