"""Log a sweep to MLflow: a parent run with a child for each cell, made from the rows."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from farm.files import atomic, jsonfile
from farm.results.kept import matrices
from farm.results.tables.escaping import shown
from farm.results.tracking import own_file
from farm.results.tracking.cells import VERSION, digest_of, of_cell
from farm.results.tracking.evidence import Evidence
from farm.results.tracking.names import run_names
from farm.results.tracking.runs import EXPERIMENT, Content, Dataset, Known, Place

if TYPE_CHECKING:
    from farm.results.columns import Row

log = logging.getLogger(__name__)

__all__ = ["EXPERIMENT", "Evidence", "is_logged", "log_sweep", "tracking_uri"]

More = Callable[["Row", bool], tuple[Dataset | None, Mapping[str, Path | str]]]
"""Returns the data set of a cell and the artifacts of its run; the ONNX file only if that is asked
for."""

Files = Mapping[str, "Path | str"]


def tracking_uri(results: Path) -> str:
    """Return `MLFLOW_TRACKING_URI`, or the address of an SQLite file in the results."""
    return os.environ.get("MLFLOW_TRACKING_URI") or own_file.address(results)


def log_sweep(
    sweep: str,
    rows: Sequence[Row],
    evidence: Mapping[str, Evidence],
    results: Path,
    complete: bool = True,
    more: More = lambda *_: (None, {}),
    last: Callable[[], Files] = dict,
) -> bool:
    """Update MLflow, and return whether anything had changed. A sweep has one parent run, also when
    it is run again.

    evidence: what the store knows of each cell. complete: the rows are all of the sweep's; else it
    is under way, and cells that have not ended get no run yet. more: is asked for the cells that
    are written. last: returns more artifacts of the sweep's own run; it is asked once all else is
    written, where the rows are complete.

    Raises:
        OSError: the files of the results cannot be written.
        Exception: whatever MLflow raises for its server or database.
    """
    state = _State(sweep, rows, evidence, results, complete, more, last)
    if state.is_logged():
        return False
    kept = state.forget()
    for name in ("alembic", "mlflow", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.ERROR)  # a new database logs each migration
    if not state.own:
        _write_elsewhere(state, kept)
        return True
    from farm.results.tracking.database import Database

    own = state.uri, own_file.artifacts(results)
    own_file.require(results)
    try:
        with Database(*own) as database:
            _write(database, state)
    except Exception as error:
        if (why := _torn(error)) is None:
            raise
        own_file.set_aside(results, why)  # too large to be read in whole before
        own_file.require(results)
        with Database(*own) as database:
            _write(database, state)
    return True


def _write_elsewhere(state: _State, kept: Any) -> None:
    """Write to a server by MLflow's client; to an SQLite database of the user's by its tables, once
    the client has made or compared them: that takes a thirtieth of the time."""
    from farm.results.tracking.database import Database
    from farm.results.tracking.server import Server

    server = Server(state.uri)
    if not _has_tables(state.uri, server.location):
        _write(server, state, kept)
        return
    with Database(state.uri, server.location) as database:
        _write(database, state)


def _has_tables(uri: str, artifacts: str) -> bool:
    """Whether runs can be written by tables, and artifacts into a folder."""
    return uri.startswith("sqlite:") and urlsplit(artifacts).scheme in ("", "file")


def is_logged(
    sweep: str, rows: Sequence[Row], evidence: Mapping[str, Evidence], results: Path
) -> bool:
    """Return whether MLflow has all of a sweep's rows, by what was noted beside the results."""
    return _State(sweep, rows, evidence, results, True).is_logged()


def _write(place: Place, state: _State, kept: Any = None) -> None:
    """Write what has changed, and note what is there then."""
    sweep = state.content()
    parent = place.parent(sweep)
    known = _runs(kept) if _runs(kept) and kept["parent"] == parent else None
    if known is not None:
        try:
            known |= place.write(parent, state.changed(known), known)
        except Exception as error:  # a run was removed there, perhaps: look at what is there
            log.debug("MLflow: %s; every run is looked at", error)
            known = None
    if known is None:
        known = place.children(parent)
        known |= place.write(parent, state.changed(known), known)
    place.finish(parent, sweep)
    if state.complete:
        place.attach(parent, state.last())
    state.keep(place.experiment, parent, known)


def _runs(kept: Any) -> dict[str, Known]:
    """The runs that were noted; nothing where the note is of an earlier version or damaged."""
    try:
        if kept["version"] != VERSION:
            return {}
        return {cell: Known(str(run), digest) for cell, (digest, run) in kept["cells"].items()}
    except (TypeError, ValueError, KeyError, AttributeError):
        return {}


def _torn(error: BaseException) -> str | None:
    """What SQLite says of a database that is broken, where the error comes from that."""
    from sqlalchemy.exc import DatabaseError

    found = type(error) is DatabaseError or type(error.__cause__) is DatabaseError
    return str(getattr(error, "orig", error)) if found else None


class _State:
    """What is to be logged of a sweep, and the note of what was: `tracked/SWEEP.json`."""

    def __init__(
        self,
        sweep: str,
        rows: Sequence[Row],
        evidence: Mapping[str, Evidence],
        results: Path,
        complete: bool,
        more: More = lambda *_: (None, {}),
        last: Callable[[], Files] = dict,
    ) -> None:
        self.last = last
        self.sweep, self.complete, self.results = sweep, complete, results
        self.uri = tracking_uri(results)
        self.own = self.uri == own_file.address(results)
        self._all, self._evidence, self._more = rows, evidence, more
        self._matrix = matrices.kept(results, sweep)
        self._copies = matrices.copies_onnx(self._matrix)
        self._names = run_names(rows)  # of all cells, so that a name stays while the sweep runs
        self._rows = [row for row in rows if complete or row["status"] != "pending"]
        self._digests = {row["cell"]: self._digest(row) for row in self._rows}
        self._mark = results / "tracked" / f"{sweep}.json"
        self._kept = _read(self._mark)

    def _digest(self, row: Row) -> str:
        cell = row["cell"]
        return digest_of(row, self._evidence[cell], self._names[cell], self._copies)

    def is_logged(self) -> bool:
        """Return whether there is nothing to do."""
        known = _runs(self._kept)
        return (
            {cell: one.digest for cell, one in known.items()} == self._digests
            and self._kept["server"] == shown(self.uri)
            and self._kept.get("complete") == self.complete
            and (not self.own or self._is_sound())
        )

    def _is_sound(self) -> bool:
        path = own_file.database_path(self.results)
        return path.is_file() and own_file.fault(path) is None

    def content(self) -> Content:
        """Return the content of the sweep's own run."""
        from farm.results.tracking import sweeps  # looks for picks: of no use to who asks alone

        times = [(one.began, one.ended) for one in self._evidence.values()]
        dataset = self._more(self._all[0], False)[0] if self._all else None
        matrix, source = self._matrix, sweeps.source_of(self._matrix)
        return sweeps.of_sweep(
            self.sweep, self._all, dataset, times, matrix, self.complete, self.results, source
        )

    def changed(self, known: Mapping[str, Known]) -> list[Content]:
        """Return the content of the runs of cells that differ from what is known."""
        from farm.results.tracking import sweeps

        source = sweeps.source_of(self._matrix)
        return [
            self._cell(row, source)
            for row, digest in zip(self._rows, self._digests.values(), strict=True)
            if row["cell"] not in known or known[row["cell"]].digest != digest
        ]

    def _cell(self, row: Row, source: Mapping[str, str]) -> Content:
        (dataset, files), cell = self._more(row, self._copies), row["cell"]
        evidence, name = self._evidence[cell], self._names[cell]
        return of_cell(row, evidence, name, dataset, files, source, self._copies)

    def forget(self) -> Any:
        """Remove the note, and return it if it is of this server: nobody may rely on it while runs
        are created."""
        self._mark.unlink(missing_ok=True)
        same = isinstance(self._kept, dict) and self._kept.get("server") == shown(self.uri)
        return self._kept if same else None

    def keep(self, experiment: str, parent: str, known: Mapping[str, Known]) -> None:
        """Note what MLflow has. Raises OSError."""
        runs = {cell: (known[cell].digest, known[cell].run) for cell in self._digests}
        note = {"version": VERSION, "server": shown(self.uri)}
        note |= {"experiment": experiment, "parent": parent}
        self._mark.parent.mkdir(exist_ok=True)
        atomic.write(self._mark, json.dumps({**note, "complete": self.complete, "cells": runs}))


def _read(path: Path) -> Any:
    """What was logged last; None if nothing was, or the file is damaged."""
    try:
        return jsonfile.read(path)
    except (OSError, ValueError):
        return None
