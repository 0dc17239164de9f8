"""Write runs to an SQLite database by MLflow's own tables: many in one transaction.

MLflow's client takes at least eight transactions for a run, each of which waits for the disk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.results.tracking import artifacts
from farm.results.tracking.models import Models
from farm.results.tracking.runs import (
    DIGEST,
    EXPERIMENT,
    PARENT,
    SUPERSEDED,
    Content,
    Known,
    now_ms,
)
from farm.results.tracking.tables import Runs, parts

if TYPE_CHECKING:
    from sqlalchemy import Connection

_MOST_AT_ONCE = 500
"""Runs in one transaction."""


class Database:
    """The experiment of the farm in an SQLite database, which is whole and has the tables of this
    MLflow.

    uri: of the database. artifacts: the address of the folder that a new experiment gets.
    """

    def __init__(self, uri: str, artifacts: str) -> None:
        from mlflow.store.db import utils

        untyped: Any = utils
        self._engine = untyped.create_sqlalchemy_engine(uri)
        experiment, place = self._found_experiment(uri, artifacts)
        self.experiment = str(experiment)
        self._runs, self._models = Runs(experiment, place), Models(experiment, place)

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self._engine.dispose()

    def parent(self, sweep: Content) -> str:
        """Return the id of the sweep's run, which is created if there is none.

        It is found by its tags, so it never is without them: an update that is interrupted before
        it is written whole leaves no run that the next one does not find.
        """
        with self._engine.begin() as connection:
            named = self._runs.with_tag(connection, "farm.sweep", sweep.cell)
            kinds = self._runs.tags(connection, named, ("farm.kind",))
            for run in named:
                if kinds[run].get("farm.kind") == "sweep":
                    return run
            return self._runs.create(connection, sweep.tags, [sweep])[0]

    def children(self, parent: str) -> dict[str, Known]:
        """Return the run of each of the sweep's cells, and remove the others that a cell has."""
        found, old = dict[str, Known](), dict[str, str]()
        with self._engine.begin() as connection:
            runs = self._runs.with_tag(connection, PARENT, parent)
            tags = self._runs.tags(connection, runs, ("farm.cell", DIGEST, SUPERSEDED))
            for run in runs:  # the newest last
                if (cell := tags[run].get("farm.cell")) is None:
                    continue
                if by := tags[run].get(SUPERSEDED):
                    old[run] = by
                    continue
                if cell in found:
                    old[found[cell].run] = run
                found[cell] = Known(run, tags[run].get(DIGEST, ""))
            self._retire(connection, old)
        return found

    def write(
        self, parent: str, cells: Sequence[Content], known: Mapping[str, Known]
    ) -> dict[str, Known]:
        """Write the runs of the cells, and return them; known: those that cells have already."""
        written: dict[str, Known] = {}
        for part in parts(cells, _MOST_AT_ONCE):
            with self._engine.begin() as connection:
                runs = self._placed(connection, parent, part, known)
                self._log(connection, dict(zip(runs, part, strict=True)))
            written |= {
                one.cell: Known(run, one.digest) for run, one in zip(runs, part, strict=True)
            }
        return written

    def finish(self, parent: str, sweep: Content) -> None:
        """Write the content of the sweep's own run."""
        with self._engine.begin() as connection:
            self._log(connection, {parent: sweep})

    def attach(self, run: str, files: Mapping[str, Path | str]) -> None:
        """Add artifacts to a run."""
        artifacts.put(self._runs.place(run), files)

    def _found_experiment(self, uri: str, location: str) -> tuple[int, str]:
        from mlflow.store.tracking.dbmodels.models import SqlExperiment
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
        from sqlalchemy import select

        table = SqlExperiment.__table__
        query = select(table.c.experiment_id, table.c.artifact_location)
        query = query.where(table.c.name == EXPERIMENT)
        with self._engine.connect() as connection:
            found = connection.execute(query).first()
        if found is None:
            untyped: Any = SqlAlchemyStore
            untyped(uri, location).create_experiment(EXPERIMENT, location)
            with self._engine.connect() as connection:
                found = connection.execute(query).one()
        return int(found[0]), str(found[1])

    def _placed(
        self,
        connection: Connection,
        parent: str,
        cells: Sequence[Content],
        known: Mapping[str, Known],
    ) -> list[str]:
        """The run of each cell: the one that it has and that can take its content, or a new one."""
        had = {known[cell.cell].run: cell for cell in cells if cell.cell in known}
        kept = {had[run].cell: run for run in self._runs.that_fit(connection, had)}
        fresh = [cell for cell in cells if cell.cell not in kept]
        ids = self._runs.create(connection, {PARENT: parent}, fresh)
        made = {cell.cell: run for cell, run in zip(fresh, ids, strict=True)}
        old = {known[name].run: run for name, run in made.items() if name in known}
        self._retire(connection, old)
        return [kept.get(cell.cell) or made[cell.cell] for cell in cells]

    def _log(self, connection: Connection, contents: Mapping[str, Content]) -> None:
        """Give runs their content: figures, models, artifacts."""
        self._runs.log(connection, contents)
        self._models.write(connection, contents, now_ms())
        for run, content in contents.items():
            self.attach(run, content.files)

    def _retire(self, connection: Connection, successors: Mapping[str, str]) -> None:
        """Remove runs and their models. successors: the run that each is superseded by."""
        self._runs.retire(connection, successors)
        self._models.retire(connection, list(successors))
