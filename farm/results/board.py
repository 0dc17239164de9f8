"""Keep the leaderboard of a sweep under way on the disk, row by row as they become known."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from farm.errors import in_one_line
from farm.results import leaderboard
from farm.results.rows import with_speedups

if TYPE_CHECKING:
    from farm.results.columns import Row

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
            leaderboard.write(with_speedups([*self._rows.values()]), self._results, self._sweep)
            self._is_new = False
            self._written()
        except OSError as error:
            log.warning(f"the leaderboard cannot be written yet: {in_one_line(error)}")
        ended = time.monotonic()
        self._due = ended + max(_PAUSE_S, _SHARE * (ended - began))
