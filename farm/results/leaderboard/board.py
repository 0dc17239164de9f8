"""Keep the leaderboard of a sweep under way on the disk, row by row as its cells end."""

from __future__ import annotations

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from farm.engine.status import failure_classes, failure_reasons, skip_reasons
from farm.errors import in_one_line
from farm.results import leaderboard
from farm.results.rows import make_rows

if TYPE_CHECKING:
    from farm.config.schema import VerifySpec
    from farm.engine.status import Outcome
    from farm.plan.steps import Plan, PlannedCell, Step
    from farm.results.columns import Row
    from farm.store import Store

log = logging.getLogger(__name__)

_PAUSE_S = 3.0
"""The shortest time between two writes."""

_SHARE = 50
"""A write may take a fiftieth of the time: one of 20,000 rows takes half a second."""


class Board:
    """The rows of a sweep, of which a driver that is killed leaves what was known seconds before.

    rows: those of all cells, as they are at the start. written: is called after each write.
    """

    def __init__(
        self,
        results: Path,
        sweep: str,
        rows: Sequence[Row],
        written: Callable[[], None] = lambda: None,
    ) -> None:
        self._results, self._sweep, self._written = results, sweep, written
        self._rows = {row["cell"]: row for row in rows}
        self._is_new = False
        self._due = time.monotonic() + _PAUSE_S

    @property
    def is_due(self) -> bool:
        """Whether `put` would write the files now."""
        return time.monotonic() >= self._due

    def put(self, row: Row) -> None:
        """Replace the row of its cell; write the files if that is due."""
        self.put_all([row])

    def put_all(self, rows: Iterable[Row]) -> None:
        """Replace the rows of these cells; write the files if that is due."""
        for row in rows:
            self._rows[row["cell"]] = row
            self._is_new = True
        if self.is_due:
            self.write()

    def write(self) -> None:
        """Write the files if a row is new. A file that cannot be written is a warning: the sweep
        goes on, and its end writes them again."""
        if not self._is_new:
            return
        began = time.monotonic()
        try:
            leaderboard.write([*self._rows.values()], self._results, self._sweep)
            self._is_new = False
            self._written()
        except OSError as error:
            log.warning(f"the leaderboard cannot be written yet: {in_one_line(error)}")
        ended = time.monotonic()
        self._due = ended + max(_PAUSE_S, _SHARE * (ended - began))


class LiveRows:
    """A watcher of `run_steps` that puts the row of each cell on the board as it becomes known.

    Rows are made when the board is due to write them, so that a short step does not pay for one.

    steps: those that are not in the store at the start.
    """

    def __init__(
        self, plan: Plan, steps: Iterable[Step], store: Store, verify: VerifySpec, board: Board
    ) -> None:
        self._plan, self._store, self._verify, self._board = plan, store, verify, board
        self._cells: dict[str, list[int]] = defaultdict(list)
        self._waits = Counter[int]()
        self._ended: dict[str, Outcome] = {}
        self._known: list[PlannedCell] = []
        remaining = {step.key for step in steps}
        for index, cell in enumerate(plan.cells):
            for key in cell.steps.values():
                if key in remaining:
                    self._cells[key].append(index)
                    self._waits[index] += 1

    def started(self, step: Step) -> None:
        """Do nothing: a row has no place for what is under way."""

    def ended(self, step: Step, outcome: Outcome) -> None:
        """Put the rows of the cells of which this was the last step."""
        self._ended[step.key] = outcome
        for index in self._cells.pop(step.key, ()):
            self._waits[index] -= 1
            if not self._waits[index]:
                self._known.append(self._plan.cells[index])
        if self._known and self._board.is_due:
            self._board.put_all(self._rows())
            self._known.clear()

    def _rows(self) -> list[Row]:
        keys = {key for cell in self._known for key in cell.steps.values()}
        ends = [self._ended[key] for key in keys if key in self._ended]
        return make_rows(
            replace(self._plan, cells=tuple(self._known)),
            self._store,
            self._verify,
            failure_reasons(ends),
            skip_reasons(ends),
            failure_classes(ends),
        )
