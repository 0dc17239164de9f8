"""Write runs to an SQLite database by MLflow's own tables: many in one transaction.

MLflow's client takes at least eight transactions for a run, each of which waits for the disk.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from farm.results.tracking import artifacts
from farm.results.tracking.models import Models
from farm.results.tracking.runs import (
    DIGEST,
    EXPERIMENT,
    OWN_TAGS,
    PARENT,
    RUN_NAME,
    SUPERSEDED,
    Content,
    Known,
)

if TYPE_CHECKING:
    from sqlalchemy import Connection

_AT_ONCE = 500
"""Runs in one transaction, and values in one query."""


class Database:
    """The experiment of the farm in an SQLite database, which is whole and has the tables of this
    MLflow.

    uri: of the database. artifacts: the address of the folder that a new experiment gets; MLflow's
    default without it.
    """

    def __init__(self, uri: str, artifacts: str | None = None) -> None:
        from mlflow.store.db import utils
        from mlflow.store.tracking.dbmodels import models

        untyped: Any = utils
        self._engine = untyped.create_sqlalchemy_engine(uri)
        self._runs, self._tags = models.SqlRun.__table__, models.SqlTag.__table__
        self._params, self._metrics = models.SqlParam.__table__, models.SqlMetric.__table__
        self._latest = models.SqlLatestMetric.__table__
        self._experiment, self._artifacts = self._found_experiment(uri, artifacts)
        self._models = Models(self._experiment, self._artifacts)

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self._engine.dispose()

    @property
    def experiment(self) -> str:
        """The id of the farm's experiment."""
        return str(self._experiment)

    def parent(self, sweep: Content) -> str:
        """Return the id of the sweep's run, which is created if there is none."""
        with self._engine.begin() as connection:
            named = self._runs_with(connection, "farm.sweep", sweep.cell)
            kinds = self._values(connection, named, ("farm.kind",))
            for run in named:
                if kinds[run].get("farm.kind") == "sweep":
                    return run
            return self._created(connection, {}, [sweep])[0]

    def children(self, parent: str) -> dict[str, Known]:
        """Return the runs of the sweep's cells that no other supersedes."""
        found = {}
        with self._engine.connect() as connection:
            runs = self._runs_with(connection, PARENT, parent)
            tags = self._values(connection, runs, ("farm.cell", DIGEST, SUPERSEDED))
        for run in runs:  # the newest last
            if (cell := tags[run].get("farm.cell")) and SUPERSEDED not in tags[run]:
                found[cell] = Known(run, tags[run].get(DIGEST, ""))
        return found

    def write(
        self, parent: str, cells: Sequence[Content], known: Mapping[str, Known]
    ) -> dict[str, Known]:
        """Write the runs of the cells, and return them; known: those that cells have already."""
        written: dict[str, Known] = {}
        for part in _parts(cells):
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

    def _found_experiment(self, uri: str, location: str | None) -> tuple[int, str]:
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
            untyped(uri, location or "mlruns").create_experiment(EXPERIMENT, location)
            with self._engine.connect() as connection:
                found = connection.execute(query).one()
        return int(found[0]), str(found[1])

    def _runs_with(self, connection: Connection, tag: str, value: str) -> list[str]:
        """The runs that are not deleted and have this tag, the newest last."""
        from sqlalchemy import select

        runs, tags = self._runs.c, self._tags.c
        query = select(runs.run_uuid).join(self._tags, tags.run_uuid == runs.run_uuid)
        query = query.where(tags.key == tag, tags.value == value, runs.lifecycle_stage == "active")
        query = query.where(runs.experiment_id == self._experiment)
        return list(connection.execute(query.order_by(runs.start_time)).scalars())

    def _values(
        self, connection: Connection, runs: Sequence[str], names: Sequence[str]
    ) -> dict[str, dict[str, str]]:
        """The values of these tags of each run."""
        from sqlalchemy import select

        found: dict[str, dict[str, str]] = {run: {} for run in runs}
        tags = self._tags.c
        for part in _parts(runs):
            query = select(tags.run_uuid, tags.key, tags.value)
            query = query.where(tags.run_uuid.in_(part), tags.key.in_(names))
            for run, name, value in connection.execute(query):
                found[run][name] = value
        return found

    def _placed(
        self,
        connection: Connection,
        parent: str,
        cells: Sequence[Content],
        known: Mapping[str, Known],
    ) -> list[str]:
        """The run of each cell: the one that it has and that can take its content, or a new one."""
        kept = self._that_fit(connection, cells, known)
        fresh = [cell for cell in cells if cell.cell not in kept]
        ids = self._created(connection, {PARENT: parent}, fresh)
        made = {cell.cell: run for cell, run in zip(fresh, ids, strict=True)}
        superseded = [(known[name].run, run) for name, run in made.items() if name in known]
        self._insert(
            connection,
            self._tags,
            ({"run_uuid": old, "key": SUPERSEDED, "value": new} for old, new in superseded),
        )
        self._models.retire(connection, [old for old, _ in superseded])
        return [kept.get(cell.cell) or made[cell.cell] for cell in cells]

    def _that_fit(
        self, connection: Connection, cells: Sequence[Content], known: Mapping[str, Known]
    ) -> dict[str, str]:
        """The runs that cells have and that can take their content, by cell."""
        from sqlalchemy import select

        had = {cell.cell: known[cell.cell].run for cell in cells if cell.cell in known}
        params: dict[str, dict[str, str]] = {run: {} for run in had.values()}
        metrics: dict[str, list[str]] = {run: [] for run in had.values()}
        own, latest = self._params.c, self._latest.c
        query = select(own.run_uuid, own.key, own.value).where(own.run_uuid.in_(params))
        for run, name, value in connection.execute(query):
            params[run][name] = value
        for run, name in connection.execute(
            select(latest.run_uuid, latest.key).where(latest.run_uuid.in_(metrics))
        ):
            metrics[run].append(name)
        contents = {cell.cell: cell for cell in cells}
        return {
            name: run for name, run in had.items() if contents[name].fits(params[run], metrics[run])
        }

    def _created(
        self, connection: Connection, tags: Mapping[str, str], contents: Sequence[Content]
    ) -> list[str]:
        """Create runs as MLflow's client does, with their names and these tags."""
        now, ids = _milliseconds(), [uuid4().hex for _ in contents]
        self._insert(
            connection,
            self._runs,
            (
                {
                    "run_uuid": run, "name": content.name, "status": "RUNNING", "start_time": now,
                    "experiment_id": self._experiment,
                    "user_id": content.tags.get("mlflow.user", "unknown"),
                    "artifact_uri": f"{self._artifacts}/{run}/artifacts",
                    "source_type": "UNKNOWN", "source_name": "", "entry_point_name": "",
                    "source_version": "", "lifecycle_stage": "active",
                }
                for run, content in zip(ids, contents, strict=True)
            ),
        )  # fmt: skip
        self._insert(
            connection,
            self._tags,
            (
                {"run_uuid": run, "key": key, "value": one}
                for run in ids
                for key, one in tags.items()
            ),
        )
        return ids

    def _log(self, connection: Connection, contents: Mapping[str, Content]) -> None:
        """Give runs their content, in place of the tags and the latest metrics that they have."""
        from sqlalchemy import or_

        now, runs = _milliseconds(), list(contents)
        latest = self._latest
        connection.execute(latest.delete().where(latest.c.run_uuid.in_(runs)))
        tags = self._tags
        mine = [tags.c.key.startswith(one, autoescape=True) for one in (*OWN_TAGS, RUN_NAME)]
        connection.execute(tags.delete().where(tags.c.run_uuid.in_(runs), or_(*mine)))
        self._insert(
            connection, tags, _pairs(contents, lambda one: {RUN_NAME: one.name, **one.tags})
        )
        self._insert(connection, self._params, _pairs(contents, lambda one: one.params))
        for table in (self._metrics, latest):
            values = _pairs(contents, lambda one: one.metrics)
            same = {"timestamp": now, "step": 0, "is_nan": False}
            self._insert(connection, table, ({**one, **same} for one in values))
        self._end(connection, contents, now)
        self._models.write(connection, contents, now)
        for run, content in contents.items():
            artifacts.put(f"{self._artifacts}/{run}/artifacts", content.files)

    def _end(self, connection: Connection, contents: Mapping[str, Content], now: int) -> None:
        """Give runs their names, their status, and the times of the work."""
        from sqlalchemy import bindparam

        table = self._runs
        update = table.update().where(table.c.run_uuid == bindparam("run"))
        timed = update.values(start_time=bindparam("began"))
        began = [{"run": run, "began": one.began} for run, one in contents.items() if one.began]
        if began:
            connection.execute(timed, began)
        ends = [
            {
                "run": run, "named": one.name, "state": one.status,
                "ended": None if one.status == "RUNNING" else one.ended or now,
            }
            for run, one in contents.items()
        ]  # fmt: skip
        names: dict[str, Any] = {"name": bindparam("named"), "status": bindparam("state")}
        connection.execute(update.values(**names, end_time=bindparam("ended")), ends)

    def _insert(self, connection: Connection, table: Any, rows: Iterable[dict[str, Any]]) -> None:
        """Insert rows; what is there already stays: params, and metrics of the same moment."""
        if found := list(rows):
            connection.execute(table.insert().prefix_with("OR IGNORE"), found)


def _pairs(contents: Mapping[str, Content], of: Any) -> Iterator[dict[str, Any]]:
    for run, content in contents.items():
        for key, value in of(content).items():
            yield {"run_uuid": run, "key": key, "value": value}


def _parts(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (values[start : start + _AT_ONCE] for start in range(0, len(values), _AT_ONCE))


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000
