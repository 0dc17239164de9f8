"""MLflow: a parent run for the sweep, a child per cell; made from the rows, after the work."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm import atomic, jsonfile
from farm.results.columns import Row
from farm.results.escaping import shown

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "farm"
_PARAMS = (
    "model", "opset", "shape", "postprocess", "precision", "runtime", "workspace_bytes", "target",
)  # fmt: skip
_STATES = {"ok": "FINISHED", "failed": "FAILED", "pending": "KILLED"}
_BATCH = 100  # MLflow's limit of params or tags in one call


def tracking_uri(results: Path) -> str:
    """`MLFLOW_TRACKING_URI`, or an SQLite file under the results."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{results / 'mlflow.db'}"


def log_sweep(sweep: str, rows: Sequence[Row], links: Mapping[str, Row], results: Path) -> bool:
    """Bring MLflow up to date; False if it was already. A sweep run again is the same parent run.

    links: for each cell, the places of its ONNX file and engine.
    """
    uri = tracking_uri(results)
    digests = {row["cell"]: _digest([row, links[row["cell"]]]) for row in rows}
    mark = results / "tracked" / f"{sweep}.json"
    state = {"server": shown(uri), "cells": digests}
    own, kept = results / "mlflow.db", _read(mark)
    if isinstance(kept, dict) and "uri" in kept:
        mark.unlink()  # an earlier version's: the address may hold a password
    if kept == state and (own.exists() or not uri.endswith(str(own))):
        return False
    client = _client(uri, results)
    experiment = _experiment(client, results)
    parent = _run(client, experiment, {"farm.sweep": sweep, "farm.kind": "sweep"}, sweep)
    known = _children(client, experiment, parent)
    for row in rows:
        run, digest = known.get(row["cell"], (None, None))
        if digest != digests[row["cell"]]:
            _log_cell(client, experiment, parent, run, row, links[row["cell"]], digests)
    _log_parent(client, parent, rows)
    mark.parent.mkdir(parents=True, exist_ok=True)
    atomic.write(mark, json.dumps(state))
    return True


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _read(path: Path) -> Any:
    """What was logged last; None where nothing was, or that is torn."""
    try:
        return jsonfile.read(path)
    except (OSError, ValueError):
        return None


def _client(uri: str, results: Path) -> MlflowClient:
    # A server that is down is told in seconds, not minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    if uri == f"sqlite:///{results / 'mlflow.db'}" and (results / "mlflow.db").is_dir():
        raise IsADirectoryError(f"{results / 'mlflow.db'} is a folder")
    from mlflow import MlflowClient

    # A new database tells of every one of its migrations.
    for name in ("alembic", "mlflow", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.ERROR)
    results.mkdir(parents=True, exist_ok=True)
    return MlflowClient(tracking_uri=uri)


def _experiment(client: MlflowClient, results: Path) -> str:
    if found := client.get_experiment_by_name(EXPERIMENT):
        return str(found.experiment_id)
    local = "MLFLOW_TRACKING_URI" not in os.environ
    place = (results / "mlflow-artifacts").as_uri() if local else None
    return str(client.create_experiment(EXPERIMENT, artifact_location=place))


def _run(client: MlflowClient, experiment: str, tags: Mapping[str, str], name: str) -> str:
    """The run with these tags, made if there is none."""
    query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    if found := client.search_runs([experiment], query, max_results=1):
        return str(found[0].info.run_id)
    return str(client.create_run(experiment, tags=dict(tags), run_name=name).info.run_id)


def _children(client: MlflowClient, experiment: str, parent: str) -> dict[str, tuple[str, str]]:
    """cell -> run id and digest of what was logged."""
    found: dict[str, tuple[str, str]] = {}
    token = None
    while True:
        page = client.search_runs(
            [experiment], f"tags.`mlflow.parentRunId` = '{parent}'", page_token=token
        )
        for run in page:
            tags = run.data.tags
            if cell := tags.get("farm.cell"):  # else another program's
                found[cell] = (str(run.info.run_id), tags.get("farm.digest", ""))
        if not (token := page.token):
            return found


def _log_cell(
    client: MlflowClient,
    experiment: str,
    parent: str,
    run: str | None,
    row: Row,
    links: Row,
    digests: Mapping[str, str],
) -> None:
    from mlflow.entities import Metric, Param, RunTag

    cell = row["cell"]
    if run is None:
        tags = {"mlflow.parentRunId": parent, "farm.cell": cell, "farm.kind": "cell"}
        run = str(client.create_run(experiment, tags=tags, run_name=cell).info.run_id)
    # The sweep's name stands on the children too: the UI's filters drop them otherwise.
    params = [Param("sweep", row["sweep"])]
    params += [Param(name, str(row[name])) for name in _PARAMS if row[name] is not None]
    now = _milliseconds()
    metrics = [
        Metric(name, float(value), now, 0)
        for name, value in row.items()
        if isinstance(value, int | float) and name not in _PARAMS
    ]
    texts = {
        f"farm.{name}": str(value)[:5000]
        for name, value in {**row, **links}.items()
        if isinstance(value, str) and name not in _PARAMS
    }
    _clear_tags(client, run, row)
    # The digest goes last: a run cut off half-way is written again.
    texts["farm.digest"] = digests[cell]
    tags_left = [RunTag(name, value) for name, value in texts.items()]
    client.log_batch(run, metrics=metrics, params=params, tags=tags_left[:_BATCH])
    client.set_terminated(run, _STATES[row["status"]])


def _clear_tags(client: MlflowClient, run: str, row: Row) -> None:
    """Drop what an earlier run of the cell said and this one does not, a failure's reason say."""
    for name in client.get_run(run).data.tags:
        if name.startswith("farm.") and row.get(name.removeprefix("farm."), "") is None:
            client.delete_tag(run, name)


def _log_parent(client: MlflowClient, parent: str, rows: Sequence[Row]) -> None:
    from mlflow.entities import Metric, Param, RunTag

    counts = {state: sum(row["status"] == state for row in rows) for state in _STATES}
    now = _milliseconds()
    metrics = [Metric(f"cells_{state}", count, now, 0) for state, count in counts.items()]
    metrics.append(Metric("cells", len(rows), now, 0))
    client.log_batch(
        parent,
        metrics=metrics,
        params=[Param("sweep", rows[0]["sweep"])],
        tags=[RunTag("farm.cells", str(len(rows)))],
    )
    worst = next((state for state in ("pending", "failed") if counts[state]), "ok")
    client.set_terminated(parent, _STATES[worst])


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000
