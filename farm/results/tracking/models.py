"""Engines as external models of MLflow, and data sets as inputs of runs, in the own database."""

from __future__ import annotations

from collections.abc import Mapping
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
        if not engines:
            return
        known = self._known(connection, [*engines])
        fresh = {run: f"m-{uuid4().hex}" for run in engines if run not in known}
        ids = {**known, **fresh}
        for table in (self._params, self._tags, self._metrics):
            connection.execute(table.delete().where(table.c.model_id.in_(known.values())))
        same = {"experiment_id": self._experiment}
        rows: dict[Any, list[dict[str, Any]]] = {}
        for run, content in engines.items():
            assert content.engine is not None
            own = {**same, "model_id": ids[run]}
            if run in fresh:
                rows.setdefault(self._models, []).append(
                    self._model(own, content, run, content.began or now)
                )
                rows.setdefault(self._inputs, []).append(
                    _edge("RUN_OUTPUT", run, "MODEL_OUTPUT", ids[run])
                )
            for table, kind, values in (
                (self._params, "param", content.engine.params),
                (self._tags, "tag", {**content.engine.tags, **EXTERNAL}),
            ):
                rows.setdefault(table, []).extend(
                    {**own, f"{kind}_key": key, f"{kind}_value": value}
                    for key, value in values.items()
                )
            of_dataset = _of_dataset(content.dataset, datasets)
            rows.setdefault(self._metrics, []).extend(
                {
                    **own, **of_dataset, "run_id": run, "metric_name": key, "metric_value": value,
                    "metric_timestamp_ms": now, "metric_step": 0,
                }
                for key, value in content.metrics.items()
            )  # fmt: skip
        for table in (self._models, self._params, self._tags, self._metrics, self._inputs):
            if rows.get(table):
                connection.execute(table.insert(), rows[table])
        for run, model in fresh.items():
            place = f"{self._artifacts}/models/{model}/artifacts"
            artifacts.put(place, {"MLmodel": mlmodel(model, run, place)})

    def _model(self, own: dict[str, Any], content: Content, run: str, began: int) -> dict[str, Any]:
        assert content.engine is not None
        location = f"{self._artifacts}/models/{own['model_id']}/artifacts"
        return {
            **own, "name": content.engine.name, "artifact_location": location,
            "creation_timestamp_ms": began, "last_updated_timestamp_ms": began, "status": _READY,
            "lifecycle_stage": "active", "source_run_id": run,
        }  # fmt: skip

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
        for one in {(one.name, one.digest): one for one in used.values()}.values():
            if (one.name, one.digest) not in ids:
                ids[one.name, one.digest] = own = uuid4().hex
                connection.execute(
                    self._datasets.insert(),
                    {
                        "dataset_uuid": own, "experiment_id": self._experiment, "name": one.name,
                        "digest": one.digest, "dataset_source_type": SOURCE_TYPE,
                        "dataset_source": one.source,
                    },
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
        if edges:
            connection.execute(self._inputs.insert(), edges)
            name, value = CONTEXT
            tags = [
                {"input_uuid": one["input_uuid"], "name": name, "value": value} for one in edges
            ]
            connection.execute(self._input_tags.insert(), tags)
        return ids


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
