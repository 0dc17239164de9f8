"""Which sweep counts where none is asked for: of each target the one that was written last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from farm.cli.results import Results
    from farm.results.columns import Row


def last_written(
    rows: Sequence[Row], results: Results
) -> tuple[list[Row], Mapping[str, list[str]]]:
    """Return the rows of each target's sweep that was written last, and the other sweeps by target.

    Raises OSError.
    """
    sweeps = {(row["target"], row["sweep"]) for row in rows}
    times = results.written_files() if len(sweeps) > len({row["target"] for row in rows}) else {}
    by_time = sorted(sweeps, key=lambda one: (times.get(one, 0.0), one))
    last = dict(by_time)
    others = {
        target: sorted(sweep for at, sweep in sweeps if at == target and sweep != own)
        for target, own in last.items()
    }
    return [row for row in rows if row["sweep"] == last[row["target"]]], others
