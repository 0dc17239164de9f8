"""Engines as external models of MLflow, and data sets as inputs of runs, in the own database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from farm.results.tracking import artifacts

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from farm.results.tracking.runs import Content, Dataset

EXTERNAL = {"mlflow.model.isExternal": "true"}
CONTEXT = ("mlflow.data.context", "evaluation")
"""What a run has used its data set for."""

SOURCE_TYPE = "farm"

_READY = 2  # mlflow.entities.LoggedModelStatus.READY


class Models:
    """The models and data sets of an experiment. artifacts: the address of its folder."""

    def __init__(self, experiment: int, artifacts: str) -> None:
        from mlflow.store.tracking.dbmodels import models as tables

        self._experiment, self._artifacts = experiment, artifacts
        self._models = tables.SqlLoggedModel.__table__
        self._params = tables.SqlLoggedModelParam.__table__
        self._tags = tables.SqlLoggedModelTag.__table__
        self._metrics = tables.SqlLoggedModelMetric.__table__
        self._datasets, self._inputs = tables.SqlDataset.__table__, tables.SqlInput.__table__
        self._input_tags = tables.SqlInputTag.__table__

    def write(self, connection: Connection, contents: Mapping[str, Content], now: int) -> None:
        """Write the engines and the data sets of runs, in place of what they have. now: in ms."""
        datasets = self._write_datasets(connection, contents)
        engines = {run: one for run, one in contents.items() if one.engine}
        known = self._known(connection, [*engines])
        fresh = {run: f"m-{uuid4().hex}" for run in engines if run not in known}
        ids, old = {**known, **fresh}, [*known.values()]
        for table in (self._params, self._tags, self._metrics):
            connection.execute(table.delete().where(table.c.model_id.in_(old)))
        _insert(
            connection,
            self._models,
            (self._model(engines[run], run, ids[run], now) for run in fresh),
        )
        edges = (_edge("RUN_OUTPUT", run, "MODEL_OUTPUT", model) for run, model in fresh.items())
        _insert(connection, self._inputs, edges)
        for run, content in engines.items():
            self._write_values(connection, ids[run], run, content, datasets, now)
        for run, content in engines.items():
            assert content.engine is not None
            place = self._place(ids[run])
            own = {"MLmodel": mlmodel(ids[run], run, place)} if run in fresh else {}
            artifacts.put(place, {**own, **content.engine.files})

    def _write_values(
        self,
        connection: Connection,
        model: str,
        run: str,
        content: Content,
        datasets: Mapping[tuple[str, str], str],
        now: int,
    ) -> None:
        """Write the params, tags and metrics of a model."""
        assert content.engine is not None
        own = {"model_id": model, "experiment_id": self._experiment}
        params, tags = content.engine.params, {**content.engine.tags, **EXTERNAL}
        for table, kind, values in ((self._params, "param", params), (self._tags, "tag", tags)):
            named = ({f"{kind}_key": key, f"{kind}_value": one} for key, one in values.items())
            _insert(connection, table, ({**own, **one} for one in named))
        same = {
            **own, **_of_dataset(content.dataset, datasets), "run_id": run,
            "metric_timestamp_ms": now, "metric_step": 0,
        }  # fmt: skip
        found = content.metrics.items()
        metrics = ({**same, "metric_name": key, "metric_value": value} for key, value in found)
        _insert(connection, self._metrics, metrics)

    def retire(self, connection: Connection, runs: list[str]) -> None:
        """Remove the models of runs that others supersede, as MLflow removes one: it is found no
        more."""
        table = self._models
        old = table.c.source_run_id.in_(runs)
        connection.execute(table.update().where(old).values(lifecycle_stage="deleted"))

    def _model(self, content: Content, run: str, model: str, now: int) -> dict[str, Any]:
        assert content.engine is not None
        began = content.began or now
        return {
            "model_id": model, "experiment_id": self._experiment, "name": content.engine.name,
            "artifact_location": self._place(model), "creation_timestamp_ms": began,
            "last_updated_timestamp_ms": now, "status": _READY, "lifecycle_stage": "active",
            "source_run_id": run,
        }  # fmt: skip

    def _place(self, model: str) -> str:
        return f"{self._artifacts}/models/{model}/artifacts"

    def _known(self, connection: Connection, runs: list[str]) -> dict[str, str]:
        """The models that runs have already."""
        from sqlalchemy import select

        table = self._models.c
        query = select(table.source_run_id, table.model_id).where(table.source_run_id.in_(runs))
        query = query.where(table.lifecycle_stage == "active")
        return {str(run): str(model) for run, model in connection.execute(query)}

    def _write_datasets(
        self, connection: Connection, contents: Mapping[str, Content]
    ) -> dict[tuple[str, str], str]:
        """Write the data sets, each once, and that runs have read them; return their ids."""
        from sqlalchemy import select

        table, inputs = self._datasets.c, self._inputs.c
        query = select(table.name, table.digest, table.dataset_uuid)
        query = query.where(table.experiment_id == self._experiment)
        ids = {
            (str(name), str(digest)): str(one) for name, digest, one in connection.execute(query)
        }
        used = {run: one.dataset for run, one in contents.items() if one.dataset}
        new = {(one.name, one.digest): one for one in used.values()}
        new = {key: one for key, one in new.items() if key not in ids}
        ids |= {key: uuid4().hex for key in new}
        same = {"experiment_id": self._experiment, "dataset_source_type": SOURCE_TYPE}
        _insert(
            connection,
            self._datasets,
            (
                {
                    **same, "dataset_uuid": ids[key], "name": one.name, "digest": one.digest,
                    "dataset_source": one.source,
                }
                for key, one in new.items()
            ),
        )  # fmt: skip
        had = select(inputs.destination_id).where(
            inputs.destination_type == "RUN", inputs.destination_id.in_([*used])
        )
        there = {str(run) for (run,) in connection.execute(had)}
        edges = [
            _edge("DATASET", ids[one.name, one.digest], "RUN", run)
            for run, one in used.items()
            if run not in there
        ]
        name, value = CONTEXT
        _insert(connection, self._inputs, edges)
        tags = ({"input_uuid": one["input_uuid"], "name": name, "value": value} for one in edges)
        _insert(connection, self._input_tags, tags)
        return ids


def _insert(connection: Connection, table: Any, rows: Iterable[dict[str, Any]]) -> None:
    if found := list(rows):
        connection.execute(table.insert(), found)


def _of_dataset(one: Dataset | None, ids: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    if one is None:
        return {"dataset_uuid": None, "dataset_name": None, "dataset_digest": None}
    return {
        "dataset_uuid": ids[one.name, one.digest],
        "dataset_name": one.name,
        "dataset_digest": one.digest,
    }


def _edge(source_type: str, source: str, destination_type: str, destination: str) -> dict[str, Any]:
    """A row of MLflow's table of what runs have read and made."""
    return {
        "input_uuid": uuid4().hex, "source_type": source_type, "source_id": source,
        "destination_type": destination_type, "destination_id": destination, "step": 0,
    }  # fmt: skip


def mlmodel(model: str, run: str, place: str) -> str:
    """Return the file by which MLflow knows a model whose own files lie elsewhere."""
    lines = [f"artifact_path: {place}", "flavors: {}", f"model_id: {model}", f"model_uuid: {model}"]
    return "\n".join([*lines, f"run_id: {run}", ""])
