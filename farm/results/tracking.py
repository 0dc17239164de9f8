"""Log a sweep to MLflow: a parent run with a child for each cell, made from the rows."""

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
from farm.results.escaping import shown

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from farm.results.columns import Row

EXPERIMENT = "farm"
_PARAMS = (
    "model", "opset", "shape", "postprocess", "precision", "runtime", "workspace_bytes", "target",
)  # fmt: skip
_STATES = {"ok": "FINISHED", "failed": "FAILED", "pending": "KILLED"}
_BATCH = 100  # MLflow's limit of params or tags in one call


def tracking_uri(results: Path) -> str:
    """Return `MLFLOW_TRACKING_URI`, or the address of an SQLite file in the results."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{results / 'mlflow.db'}"


def log_sweep(sweep: str, rows: Sequence[Row], links: Mapping[str, Row], results: Path) -> bool:
    """Update MLflow, and return whether anything had changed. A sweep has one parent run, also when
    it is run again.

    links: the paths of each cell's ONNX file and engine, by name.

    Raises:
        OSError: the files of the results cannot be written.
        Exception: whatever MLflow raises for its server or database.
    """
    uri = tracking_uri(results)
    digests = {row["cell"]: _digest([row, links[row["cell"]]]) for row in rows}
    mark = results / "tracked" / f"{sweep}.json"
    state = {"server": shown(uri), "cells": digests}
    own, kept = results / "mlflow.db", _read(mark)
    if isinstance(kept, dict) and "uri" in kept:
        mark.unlink()  # written by an earlier version; the address may hold a password
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
    """What was logged last; None if nothing was, or the file is damaged."""
    try:
        return jsonfile.read(path)
    except (OSError, ValueError):
        return None


def _client(uri: str, results: Path) -> MlflowClient:
    # So a server that is down is noticed in seconds, not minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    if uri == f"sqlite:///{results / 'mlflow.db'}" and (results / "mlflow.db").is_dir():
        raise IsADirectoryError(f"{results / 'mlflow.db'} is a folder")
    from mlflow import MlflowClient

    # A new database logs each of its migrations.
    for name in ("alembic", "mlflow", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.ERROR)
    results.mkdir(parents=True, exist_ok=True)
    return MlflowClient(tracking_uri=uri)


def _experiment(client: MlflowClient, results: Path) -> str:
    if found := client.get_experiment_by_name(EXPERIMENT):
        return str(found.experiment_id)
    local = "MLFLOW_TRACKING_URI" not in os.environ
    location = (results / "mlflow-artifacts").as_uri() if local else None
    return str(client.create_experiment(EXPERIMENT, artifact_location=location))


def _run(client: MlflowClient, experiment: str, tags: Mapping[str, str], name: str) -> str:
    """The run with these tags, which is created if there is none."""
    query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    if found := client.search_runs([experiment], query, max_results=1):
        return str(found[0].info.run_id)
    return str(client.create_run(experiment, tags=dict(tags), run_name=name).info.run_id)


def _children(client: MlflowClient, experiment: str, parent: str) -> dict[str, tuple[str, str]]:
    """By cell: the id of its run, and the digest of what was logged."""
    found: dict[str, tuple[str, str]] = {}
    token = None
    while True:
        page = client.search_runs(
            [experiment], f"tags.`mlflow.parentRunId` = '{parent}'", page_token=token
        )
        for run in page:
            tags = run.data.tags
            if cell := tags.get("farm.cell"):  # else the run is of another program
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
    # Children have the sweep's name too, or the UI's filter for it would hide them.
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
    # The digest is the last tag: a run that was interrupted before is written again.
    texts["farm.digest"] = digests[cell]
    tags_list = [RunTag(name, value) for name, value in texts.items()]
    client.log_batch(run, metrics=metrics, params=params, tags=tags_list[:_BATCH])
    client.set_terminated(run, _STATES[row["status"]])


def _clear_tags(client: MlflowClient, run: str, row: Row) -> None:
    """Remove tags of an earlier run of the cell that no longer hold, such as a failure's reason."""
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
