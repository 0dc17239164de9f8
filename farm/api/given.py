"""What callers give to several functions, as the commands take it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from farm.results.conditions import Condition

PathLike = str | Path


def place(results: PathLike | None) -> str | None:
    """Return where results are as a text; None for the default."""
    return None if results is None else str(results)


def conditions(where: str | Iterable[str]) -> tuple[Condition, ...]:
    """Return the conditions of one text or of several. Raises InputError."""
    from farm.results.conditions import parse

    return tuple(map(parse, [where] if isinstance(where, str) else where))
