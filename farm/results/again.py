"""Measure or compare cells again that have figures already: which ones, and what is forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from farm.errors import InputError, nearest
from farm.specs import Ref
from farm.store.records import HERE

if TYPE_CHECKING:
    from farm.results.columns import Row

STAGES = ("measure", "compare")

UNSTABLE = "unstable"
"""In place of a cell: those whose latency drifted, or was measured beside other work."""

BUSY_CORES = 0.5
"""So many cores at work on other things disturb a measurement."""


@dataclass(frozen=True)
class Again:
    """What is asked for. stage: one of `STAGES`; a cell that is measured again is compared again,
    too. only: names of cells, with the shell's `*` and `?`, or `unstable`; () for all.
    """

    stage: str
    only: tuple[str, ...] = ()

    def chosen(self, rows: Sequence[Row]) -> list[Row]:
        """Return the rows of measured cells that are meant.

        Raises:
            InputError: there is no cell of a name.
        """
        names = [row["cell"] for row in rows]
        for one in self.only:
            if one != UNSTABLE and not any(fnmatchcase(name, one) for name in names):
                raise InputError(f"no cell {one!r}{nearest(one, [*names, UNSTABLE])}", "--only")
        done = (row for row in rows if row["latency_p50_ms"] is not None and row["origin"] == HERE)
        own = (row for row in done if row[f"{self.stage}_key"])  # not every cell was compared
        return [row for row in own if not self.only or self._is_meant(row)]

    def _is_meant(self, row: Row) -> bool:
        return any(
            is_unstable(row) if one == UNSTABLE else fnmatchcase(row["cell"], one)
            for one in self.only
        )

    def refs(self, rows: Sequence[Row]) -> list[Ref]:
        """Return the steps that run again for the rows that `chosen` has returned."""
        stages = STAGES[STAGES.index(self.stage) :]
        keys = ((stage, row[f"{stage}_key"]) for row in rows for stage in stages)
        return [Ref(stage, key) for stage, key in dict.fromkeys(keys) if key]


def is_unstable(row: Row) -> bool:
    """Return whether the latency drifted, or was measured beside other work."""
    busy = row["busy_cores"]
    return row["stable"] is False or (busy is not None and busy >= BUSY_CORES)
