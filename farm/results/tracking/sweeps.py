"""The run of a sweep, the parent of its cells: what it found, of which data, by which command."""

from __future__ import annotations

import getpass
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.errors import InputError
from farm.results.kept.as_run import as_run
from farm.results.names import outer
from farm.results.picking.criteria import Criteria
from farm.results.picking.select import picks
from farm.results.picking.ties import pareto
from farm.results.tables.column_choice import shown_columns
from farm.results.tables.render import render_columns
from farm.results.tracking.cells import STATES
from farm.results.tracking.runs import NOTE, Content, Dataset

if TYPE_CHECKING:
    from farm.results.columns import Row

_MOST_FRONT = 20
"""Rows of the front in the description."""

_GIT_S = 5.0

_FRONT = (
    "model", "runtime", "opset", "shape", "postprocess", "precision", "box_ap", "mask_ap",
    "latency_p50_ms", "rank",
)  # fmt: skip


def of_sweep(
    sweep: str,
    rows: Sequence[Row],
    dataset: Dataset | None,
    times: Sequence[tuple[float | None, float | None]],
    matrix: Mapping[str, Any],
    complete: bool,
    results: Path,
    source: Mapping[str, str],
) -> Content:
    """Return the content of a sweep's own run.

    times: when the work on each cell began and ended, in seconds since 1970. matrix: as
    `matrices.kept` returns it. complete: the sweep has ended. source: as `source_of` returns it.
    """
    counts = {state: sum(row["status"] == state for row in rows) for state in STATES}
    metrics = {f"cells_{state}": float(count) for state, count in counts.items()}
    worst = next((state for state in ("pending", "failed") if counts[state]), "ok")
    began = [round(1000 * one) for one, _ in times if one]
    ended = [round(1000 * one) for _, one in times if one]
    return Content(
        sweep,
        sweep,
        {"sweep": sweep},
        {**metrics, "cells": float(len(rows))},
        {
            "farm.sweep": sweep,
            "farm.kind": "sweep",
            "farm.cells": str(len(rows)),
            NOTE: "\n\n".join(_note(rows, dataset, matrix)),
            **source,
        },
        STATES[worst] if complete else "RUNNING",
        min(began, default=None),
        max(ended, default=None) if complete else None,
        dataset,
        files=dict(_files(sweep, matrix, rows, results if complete else None)),
    )


def _note(rows: Sequence[Row], dataset: Dataset | None, matrix: Mapping[str, Any]) -> Iterator[str]:
    """The description: the picks, the front of each target, the data set, the command."""
    own = [row for row in rows if row["status"] != "pending"]
    if any(row["status"] == "ok" for row in own):
        yield from _found(own)
    if dataset:
        yield f"**Data set** {dataset.name}, digest `{dataset.digest}`"
    if command := matrix.get("command"):
        yield f"**Command** `{command}`"


def _found(rows: Sequence[Row]) -> Iterator[str]:
    with suppress(InputError):
        for (target, model), picked in picks(rows, Criteria()).items():
            best = picked.best["cell"] if picked.best else "none"
            yield f"**Ship** of {model} on {target}: `{best}`, {picked.why}"
    for target in dict.fromkeys(row["target"] for row in rows):
        usable = [
            row for row in rows
            if row["target"] == target and row["status"] == "ok" and row["box_ap"] is not None
            and row["latency_p50_ms"] is not None
        ]  # fmt: skip
        if front := pareto(usable)[:_MOST_FRONT]:
            columns = [
                (name, outer(name), form)  # as the metrics of the cells' runs are called
                for name, _, form in shown_columns(front)
                if name in _FRONT
            ]
            table = render_columns(front, columns, "markdown")
            yield f"**Pareto front** of AP and latency on {target}\n\n{table}"


def source_of(matrix: Mapping[str, Any]) -> dict[str, str]:
    """Return MLflow's own tags for the matrix's file, its commit and the user."""
    found = {"mlflow.source.type": "LOCAL"}
    if path := matrix.get("matrix"):
        found["mlflow.source.name"] = str(path)
    with suppress(KeyError, OSError, ImportError):  # a user without a name, as in containers
        found["mlflow.user"] = getpass.getuser()
    if commit := _commit(matrix.get("matrix")):
        found["mlflow.source.git.commit"] = commit
    return found


def _commit(path: object) -> str:
    """The commit of the repository that the matrix lies in; empty where it is in none."""
    if not isinstance(path, str):
        return ""
    command = ["git", "-C", str(Path(path).parent), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired, ValueError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _files(
    sweep: str, matrix: Mapping[str, Any], rows: Sequence[Row], results: Path | None
) -> Iterator[tuple[str, Path | str]]:
    """The artifacts: the matrix as written and as run, and in the end the leaderboard."""
    if text := matrix.get("text"):
        yield "matrix.yaml", str(text)
    if run := as_run(sweep, matrix):
        yield "matrix-as-run.yaml", run
    if results is None:
        return
    yield "leaderboard.csv", render_columns(rows, (), "csv") + "\n"
    for path in sorted(results.glob(f"leaderboard/target=*/sweep={sweep}/*.parquet")):
        target = path.parent.parent.name.partition("=")[2]
        yield f"leaderboard/{target}.parquet", path
