"""Runs as rows of MLflow's own tables in an SQLite database."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from farm.results.tracking.runs import OWN_TAGS, RUN_NAME, SUPERSEDED, Content, now_ms

if TYPE_CHECKING:
    from sqlalchemy import Connection

_MOST_AT_ONCE = 500
"""Values in one query."""


class Runs:
    """The runs of an experiment. artifacts: the address of its folder.

    Every method works in the transaction of the connection that it gets.
    """

    def __init__(self, experiment: int, artifacts: str) -> None:
        from mlflow.store.tracking.dbmodels import models

        self._experiment, self._artifacts = experiment, artifacts
        self._runs, self._tags = models.SqlRun.__table__, models.SqlTag.__table__
        self._params, self._metrics = models.SqlParam.__table__, models.SqlMetric.__table__
        self._latest = models.SqlLatestMetric.__table__

    def place(self, run: str) -> str:
        """Return the address of a run's artifacts."""
        return f"{self._artifacts}/{run}/artifacts"

    def with_tag(self, connection: Connection, tag: str, value: str) -> list[str]:
        """Return the runs that are not deleted and have this tag, the newest last."""
        from sqlalchemy import select

        runs, tags = self._runs.c, self._tags.c
        query = select(runs.run_uuid).join(self._tags, tags.run_uuid == runs.run_uuid)
        query = query.where(tags.key == tag, tags.value == value, runs.lifecycle_stage == "active")
        query = query.where(runs.experiment_id == self._experiment)
        return list(connection.execute(query.order_by(runs.start_time)).scalars())

    def tags(
        self, connection: Connection, runs: Sequence[str], names: Sequence[str]
    ) -> dict[str, dict[str, str]]:
        """Return the values of these tags of each run."""
        from sqlalchemy import select

        found: dict[str, dict[str, str]] = {run: {} for run in runs}
        tags = self._tags.c
        for part in parts(runs, _MOST_AT_ONCE):
            query = select(tags.run_uuid, tags.key, tags.value)
            query = query.where(tags.run_uuid.in_(part), tags.key.in_(names))
            for run, name, value in connection.execute(query):
                found[run][name] = value
        return found

    def that_fit(self, connection: Connection, contents: Mapping[str, Content]) -> set[str]:
        """Return the runs that can take their new content. contents: by run, at most 500."""
        from sqlalchemy import select

        params: dict[str, dict[str, str]] = {run: {} for run in contents}
        metrics: dict[str, list[str]] = {run: [] for run in contents}
        own, latest = self._params.c, self._latest.c
        query = select(own.run_uuid, own.key, own.value).where(own.run_uuid.in_(params))
        for run, name, value in connection.execute(query):
            params[run][name] = value
        for run, name in connection.execute(
            select(latest.run_uuid, latest.key).where(latest.run_uuid.in_(metrics))
        ):
            metrics[run].append(name)
        return {run for run, one in contents.items() if one.fits(params[run], metrics[run])}

    def create(
        self, connection: Connection, tags: Mapping[str, str], contents: Sequence[Content]
    ) -> list[str]:
        """Create runs as MLflow's client does, with their names and these tags; return their
        ids."""
        now, ids = now_ms(), [uuid4().hex for _ in contents]
        self._insert(
            connection,
            self._runs,
            (
                {
                    "run_uuid": run, "name": content.name, "status": "RUNNING", "start_time": now,
                    "experiment_id": self._experiment,
                    "user_id": content.tags.get("mlflow.user", "unknown"),
                    "artifact_uri": self.place(run),
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

    def log(self, connection: Connection, contents: Mapping[str, Content]) -> None:
        """Give runs their content, in place of the tags and the latest metrics that they have."""
        from sqlalchemy import or_

        now, runs = now_ms(), list(contents)
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

    def retire(self, connection: Connection, successors: Mapping[str, str]) -> None:
        """Remove runs as MLflow removes them: its pages show them no more, and it can restore
        them. successors: the run that each is superseded by."""
        own = list(successors)
        marks = (
            {"run_uuid": old, "key": SUPERSEDED, "value": new} for old, new in successors.items()
        )
        self._insert(connection, self._tags, marks)
        table = self._runs
        removed = table.update().values(lifecycle_stage="deleted", deleted_time=now_ms())
        for part in parts(own, _MOST_AT_ONCE):
            connection.execute(removed.where(table.c.run_uuid.in_(part)))

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


def parts(values: Sequence[Any], most: int) -> Iterator[Sequence[Any]]:
    """Yield the values in their order, so many at once."""
    return (values[start : start + most] for start in range(0, len(values), most))
