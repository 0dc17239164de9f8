"""Where results are: a folder, or a place in an object store with a folder that mirrors it."""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from farm.cli import places
from farm.engine import estimates
from farm.engine.estimates import Estimates, read_estimates, write_estimates
from farm.errors import InputError
from farm.results.kept import matrices
from farm.store.folder import FolderObjects
from farm.store.objects import is_url
from farm.store.opening import open_objects, open_store, own_folder

if TYPE_CHECKING:
    from farm.config.loader import Matrix
    from farm.engine.workers.temporary import TemporaryFolder
    from farm.plan.steps import Plan
    from farm.results.columns import Row
    from farm.store import Store
    from farm.store.remote.looking import Onlooker
    from farm.store.remote.mirror import Mirror

log = logging.getLogger(__name__)

BOARD, SWEEPS = "leaderboard", "sweeps"
_RUNNING = f"{SWEEPS}/running"
"""Has the names of the sweeps that run, in an object store."""


@dataclass(frozen=True)
class Results:
    """Where results are.

    folder: where this process reads and writes them. mirror: of an object store, the objects that
    count; the folder is then this machine's own. onlooker: tells there which sweeps run.
    """

    folder: Path
    mirror: Mirror | None = None
    onlooker: Onlooker | None = None

    @classmethod
    def at(cls, place: str, only_read: bool = False) -> Results:
        """Return the results in a folder, or at the address of an object store.

        only_read: for a process that writes none. What it reads of an object store is in a
        temporary folder, and not in that of this machine, in which a sweep may be writing. The
        folder lasts as long as these results do.

        Raises:
            InputError: the address is wrong or cannot be reached.
        """
        if not is_url(place):
            return cls(Path(place))
        from farm.engine.workers.temporary import TemporaryFolder
        from farm.store.remote.looking import Onlooker
        from farm.store.remote.mirror import Mirror

        objects = open_objects(place)
        objects.require_reachable()
        own = TemporaryFolder("results") if only_read else None
        folder = own.path if own else own_folder(place) / "results"
        found = cls(folder, Mirror(objects, folder), Onlooker(objects, _RUNNING))
        if own:
            weakref.finalize(found, _remove, own, os.getpid())
        return found

    def __str__(self) -> str:
        return self.mirror.objects.url if self.mirror else str(self.folder)

    def store(self, cached: bool = False) -> Store:
        """Return the store of these results; see `open_store`. Raises InputError, OSError."""
        store = open_store(places.store_address(str(self)), cached)
        store.require_version()
        return store

    def read(
        self,
        target: str | None = None,
        sweep: str | None = None,
        only: Collection[str] | None = None,
    ) -> list[Row]:
        """Return rows of the leaderboard as `leaderboard.read`. Raises InputError, OSError."""
        from farm.results import leaderboard  # imports pyarrow, which a plan does not need

        if self.mirror is None:
            return leaderboard.read(self.folder, target, sweep, only)
        self.mirror.pull(BOARD)
        try:
            return leaderboard.read(self.folder, target, sweep, only)
        except InputError as error:
            where = error.where.replace(str(self.folder), str(self))
            raise InputError(error.message, where) from None

    def rows(self) -> list[Row]:
        """Return the rows of all sweeps, if there are any. Raises InputError, OSError."""
        return self.of_sweep("*", "*")

    def written(self, sweep: str) -> float:
        """Return when rows of a sweep were written last, in seconds since 1970. Raises OSError."""
        times = self.written_files().items()
        return max((time for (_, own), time in times if own == sweep), default=0.0)

    def written_files(self) -> dict[tuple[str, str], float]:
        """Return when the rows of each target and sweep were written, in seconds since 1970.

        Raises OSError.
        """
        objects = self.mirror.objects if self.mirror else FolderObjects(self.folder)
        found = dict[tuple[str, str], float]()
        for one in objects.listed(BOARD):
            parts = dict(part.partition("=")[::2] for part in one.name.split("/"))
            if "target" in parts and "sweep" in parts:
                group = parts["target"], parts["sweep"]
                found[group] = max(one.modified, found.get(group, 0.0))
        return found

    def of_sweep(self, sweep: str, target: str) -> list[Row]:
        """Return rows of a sweep as `leaderboard.of_sweep`. Raises InputError, OSError."""
        from farm.results import leaderboard

        if self.mirror:
            self.mirror.pull(BOARD)
        return leaderboard.of_sweep(self.folder, sweep, target)

    def write(self, rows: Sequence[Row], sweep: str, complete: bool = True) -> None:
        """Write rows of a sweep as `leaderboard.write`. Raises OSError."""
        from farm.results import leaderboard

        leaderboard.write(rows, self.folder, sweep, complete)
        self.keep(sweep, complete)

    def keep(self, sweep: str, complete: bool = True) -> None:
        """Put the files of the leaderboard that a sweep has in the folder; with `complete` remove
        its others. Raises OSError."""
        if self.mirror is None:
            return
        files = (self.folder / BOARD).glob(f"target=*/sweep={sweep}/*.parquet")
        names = [one.relative_to(self.folder).as_posix() for one in files]
        self.mirror.push(names)
        if complete:
            there = (one.name for one in self.mirror.objects.listed(BOARD))
            old = [one for one in there if f"/sweep={sweep}/" in one and one not in names]
            self.mirror.objects.delete(old)

    def keep_history(self, rows: Sequence[Row], sweep: str) -> None:
        """Keep rows whose figures new ones will replace, as `history.keep`. Raises OSError."""
        from farm.results.kept import history

        names = history.keep(rows, self.folder, sweep)
        if self.mirror:
            self.mirror.push(names)

    def keep_replaced(self, plan: Plan) -> None:
        """Keep the earlier figures of a sweep as history, where code, packages or inputs have
        changed since. Raises OSError."""
        from farm.results.kept.history import replaced

        planned = {cell.cell.id: cell.steps.get("measure") for cell in plan.cells}
        try:
            rows = self.of_sweep(plan.name, "*")
        except InputError as error:  # the sweep writes these files anew
            log.warning(f"earlier figures are not kept as history: {error}")
            return
        if old := replaced(rows, planned):
            self.keep_history(old, plan.name)
            log.info(f"{len(old)} cells run anew; their earlier figures are history")

    def history(self, target: str | None, sweep: str | None) -> list[Row]:
        """Return the rows that were kept, as `history.read`. Raises InputError, OSError."""
        from farm.results.kept import history

        if self.mirror:
            self.mirror.pull(history.FOLDER)
        return history.read(self.folder, target, sweep)

    def estimates(self) -> Estimates:
        """Return what the steps of earlier sweeps have taken; nothing where that cannot be read."""
        with suppress(OSError):
            if self.mirror:
                self.mirror.pull(estimates.FOLDER)
        return Estimates(read_estimates(self.folder / estimates.FILE))

    def keep_estimates(self, own: Estimates) -> None:
        """Write them for later sweeps. Where that fails they are found anew."""
        with suppress(OSError):
            known = own.over(self.estimates().known)  # another sweep may have written meanwhile
            write_estimates(self.folder / estimates.FILE, known)
            if self.mirror:
                self.mirror.push([estimates.FILE])

    def keep_matrix(self, matrix: Matrix) -> None:
        """Write the matrix of a sweep as `matrices.keep_matrix`. Raises OSError."""
        matrices.keep_matrix(matrix, self.folder)
        if self.mirror:
            self.mirror.push([f"{SWEEPS}/{matrix.name}.json"])

    def kept_matrix(self, sweep: str) -> Matrix:
        """Return the matrix of a sweep as `matrices.kept_matrix`. Raises InputError, OSError."""
        if self.mirror:
            self.mirror.pull(SWEEPS, lambda name: name == f"{SWEEPS}/{sweep}.json")
        return matrices.kept_matrix(self.folder, sweep)

    @contextmanager
    def locked(self, sweep: str) -> Iterator[None]:
        """Allow one run of a sweep at a time, as `places.locked`. Raises InputError."""
        if self.mirror is None:
            with places.locked(self.folder, sweep):
                yield
            return
        from farm.store.remote.claims import session
        from farm.store.remote.leftovers import remove_dead

        (self.folder / BOARD).mkdir(parents=True, exist_ok=True)
        with session(self.mirror.objects, _RUNNING) as claims:
            if not claims.outlast(sweep):
                raise InputError(f"sweep {sweep} is already running there", str(self))
            remove_dead(claims)
            yield

    def running(self) -> list[str]:
        """Return the names of the sweeps that run there. Raises OSError."""
        return self.onlooker.living() if self.onlooker else places.running(self.folder)


def _remove(folder: TemporaryFolder, owner: int) -> None:
    """Remove a folder, but not in a process that was forked from its owner."""
    if os.getpid() == owner:
        folder.remove()


def results_of(
    option: str | None, matrix: Matrix | None = None, only_read: bool = False
) -> Results:
    """Return the results that `places.results_place` names, as `Results.at`. Raises InputError."""
    return Results.at(places.results_place(option, matrix), only_read)
