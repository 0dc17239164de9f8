"""Keep the leaderboard of a sweep under way on the disk, row by row as its cells end."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from farm.engine.status import failure_classes, failure_reasons, skip_reasons
from farm.failures import in_one_line
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

_END_S = 10.0
"""How long the end of a sweep waits for a write that is under way, in seconds."""


class Board:
    """The rows of a sweep, of which a driver that is killed leaves what was known seconds before.

    written: is called after each write.
    """

    def __init__(
        self, results: Path, sweep: str, written: Callable[[], None] = lambda: None
    ) -> None:
        self._results, self._sweep, self._written = results, sweep, written
        self._rows: dict[str, Row] = {}
        self._is_new = False
        self._due = time.monotonic()
        self._lock, self._closed = threading.Lock(), False

    def wait_s(self) -> float:
        """Return in how many seconds `put_all` would write the files; 0.0 for at once."""
        return max(0.0, self._due - time.monotonic())

    def put_all(self, rows: Iterable[Row]) -> None:
        """Replace the rows of these cells; write the files if that is due."""
        for row in rows:
            self._rows[row["cell"]] = row
            self._is_new = True
        if not self.wait_s():
            self.write()

    def close(self) -> None:
        """Write nothing from now on; wait for a write that is under way."""
        with self._lock:
            self._closed = True

    def write(self) -> None:
        """Write the files if a row is new. A file that cannot be written is a warning: the sweep
        goes on, and its end writes them again."""
        with self._lock:
            if self._is_new and not self._closed:
                self._write()

    def _write(self) -> None:
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
    """A watcher of `run_steps` that puts the row of each cell on the board within seconds of its
    end, and a context manager.

    Rows are made and written in a thread of its own, many at once: the driver waits neither for
    records nor for the disk, and a cell's row does not wait for the end of the next step.

    steps: those that are not in the store at the start.
    """

    def __init__(
        self, plan: Plan, steps: Iterable[Step], store: Store, verify: VerifySpec, board: Board
    ) -> None:
        self._plan, self._store, self._verify, self._board = plan, store, verify, board
        self._cells: dict[str, list[int]] = defaultdict(list)
        self._waits = Counter[int]()
        self._ended: dict[str, Outcome] = {}
        self._known = deque[int]()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="leaderboard", daemon=True)
        remaining = {step.key for step in steps}
        for index, cell in enumerate(plan.cells):
            for key in cell.steps.values():
                if key in remaining:
                    self._cells[key].append(index)
                    self._waits[index] += 1

    def __enter__(self) -> LiveRows:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop. The end of the sweep writes what is not written by now, and nothing replaces it."""
        self._stop.set()
        try:
            self._thread.join(_END_S)
        finally:
            self._board.close()

    def started(self, step: Step) -> None:
        """Do nothing: a row has no place for what is under way."""

    def ended(self, step: Step, outcome: Outcome) -> None:
        """Note the cells of which this was the last step."""
        self._ended[step.key] = outcome
        for index in self._cells.pop(step.key, ()):
            self._waits[index] -= 1
            if not self._waits[index]:
                self._known.append(index)

    def _follow(self) -> None:
        """Write all rows as they are at the start, then those of cells that have ended since."""
        cells, failed = [*self._plan.cells], ""
        while not self._stop.is_set():
            try:
                self._board.put_all(self._rows(cells) if cells else ())
                cells = []
            except Exception as error:  # such as a service's: tried again, and the end does it anew
                if (why := in_one_line(error)) != failed:
                    log.warning(f"the leaderboard is not up to date: {why}")
                failed = why
            self._stop.wait(max(_PAUSE_S, self._board.wait_s()))
            cells += [self._plan.cells[self._known.popleft()] for _ in range(len(self._known))]

    def _rows(self, cells: Sequence[PlannedCell]) -> list[Row]:
        keys = {key for cell in cells for key in cell.steps.values()}
        ends = [self._ended[key] for key in keys if key in self._ended]
        return make_rows(
            replace(self._plan, cells=tuple(cells)),
            self._store,
            self._verify,
            failure_reasons(ends),
            skip_reasons(ends),
            failure_classes(ends),
        )
