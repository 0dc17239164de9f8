"""How tables show what is not certain: ties, and measurements that were not steady."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from farm.results.columns import Row

LOOKED_AT = ("rank", "stable", "stopped_early", "compare_key")
"""The columns that `marked` looks at beside those that it changes."""

_TIED, _UNSTEADY, _STOPPED = "=", "~", "stopped"


class Marked(str):
    """The text of a value, in place of what the column's format would make of it."""


def marked(rows: Sequence[Row], among: Sequence[Row] = ()) -> list[Row]:
    """Return the rows as a table shows them: ranks that several share as `1=`, a latency that was
    not steady with a `~`, and `stopped` for an AP that is not known to the end.

    among: all rows, where only some of them are shown; they share ranks with those, too.
    """
    shared = Counter((row.get("compare_key"), row.get("rank")) for row in among or rows)
    return [{**row, **dict(_marks(row, shared))} for row in rows]


def _marks(row: Row, shared: Counter[tuple[Any, Any]]) -> Iterator[tuple[str, Marked]]:
    rank = row.get("rank")
    if rank is not None and shared[row.get("compare_key"), rank] > 1:
        yield "rank", Marked(f"{rank}{_TIED}")
    if row.get("stopped_early"):
        yield "box_ap", Marked(_STOPPED)
    if row.get("stable") is False and (latency := row["latency_p50_ms"]) is not None:
        decimals = 2 if latency < 100 else 1 if latency < 1000 else 0
        yield "latency_p50_ms", Marked(f"{latency:.{decimals}f}{_UNSTEADY}")


def legend(rows: Sequence[Row]) -> list[str]:
    """Return lines that explain the marks of these rows, as `marked` returns them."""
    values = [str(value) for row in rows for value in row.values() if isinstance(value, Marked)]
    lines = []
    if any(value.endswith(_TIED) for value in values):
        lines.append(f"{_TIED} cells of this rank cannot be told apart by their speed")
    if any(value.endswith(_UNSTEADY) for value in values):
        lines.append(f"{_UNSTEADY} the two halves of its samples differ by more than a tenth")
    if _STOPPED in values:
        lines.append(
            f"{_STOPPED}: it was evaluated until it had lost too much AP for sure (racing)"
        )
    return ["", *lines] if lines else []
