"""The rows of a sweep under way: each is made when the last step of its cell has ended."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from farm.engine.status import failure_classes, failure_reasons, skip_reasons
from farm.results.rows import make_rows

if TYPE_CHECKING:
    from collections.abc import Iterable

    from farm.config.schema import VerifySpec
    from farm.engine.status import Outcome
    from farm.plan.steps import Plan, PlannedCell, Step
    from farm.results.board import Board
    from farm.results.columns import Row
    from farm.store import Store


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
