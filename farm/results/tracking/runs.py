"""What MLflow keeps of a cell and of a sweep: the content of a run, made from rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from farm.results.columns import Row

EXPERIMENT = "farm"
SUPERSEDED = "farm.superseded"
"""The tag of a run whose cell has another run since; it has the id of that one."""

DIGEST = "farm.digest"
PARENT = "mlflow.parentRunId"

_PARAMS = (
    "model", "opset", "shape", "postprocess", "precision", "runtime", "workspace_bytes", "target",
)  # fmt: skip
_STATES = {"ok": "FINISHED", "failed": "FAILED", "pending": "KILLED"}
_MOST_TAGS = 100  # MLflow's limit in one call
_LONGEST = 5000  # characters of a tag


@dataclass(frozen=True)
class Content:
    """The content of one run. status: as MLflow names it; RUNNING while its sweep is under way."""

    name: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    status: str

    @property
    def digest(self) -> str:
        """Return the digest of the cell's row and links."""
        return self.tags.get(DIGEST, "")

    def fits(self, params: Mapping[str, str], metrics: Sequence[str]) -> bool:
        """Return whether a run with these params and metrics can take the content.

        MLflow changes no param, and removes neither params nor metrics.
        """
        same = all(self.params.get(name) == value for name, value in params.items())
        return same and set(metrics) <= set(self.metrics)


@dataclass(frozen=True)
class Known:
    """The run that a cell has already, and the digest of what was logged."""

    run: str
    digest: str


class Place(Protocol):
    """Where runs are kept: MLflow's server, or the database in the results."""

    def parent(self, sweep: Content) -> str:
        """Return the id of the sweep's run, which is created if there is none."""

    def children(self, parent: str) -> dict[str, Known]:
        """Return the runs of the sweep's cells that no other supersedes."""

    def write(
        self, parent: str, cells: Sequence[Content], known: Mapping[str, Known]
    ) -> dict[str, Known]:
        """Write the runs of the cells, and return them; known: those that cells have already."""

    def finish(self, parent: str, sweep: Content) -> None:
        """Write the content of the sweep's own run."""


def digest_of(row: Row, links: Row) -> str:
    """Return the digest of what is logged of a cell."""
    return hashlib.sha256(json.dumps([row, links], sort_keys=True).encode()).hexdigest()


def of_cell(row: Row, links: Row, digest: str) -> Content:
    """Return the content of a cell's run. links: its ONNX file and engine, by name."""
    # Children have the sweep's name too, or the UI's filter for it would hide them.
    params = {"sweep": row["sweep"]}
    params |= {name: str(row[name]) for name in _PARAMS if row[name] is not None}
    others = {name: value for name, value in {**row, **links}.items() if name not in _PARAMS}
    metrics = {
        name: float(value) for name, value in others.items() if isinstance(value, int | float)
    }
    tags = {"farm.cell": row["cell"], "farm.kind": "cell"}
    tags |= {f"farm.{name}": text[:_LONGEST] for name, text in others.items() if _is_text(text)}
    # The digest is the last tag: a run that was interrupted before is written again.
    tags = {**dict([*tags.items()][: _MOST_TAGS - 1]), DIGEST: digest}
    return Content(row["cell"], params, metrics, tags, _STATES[row["status"]])


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def of_sweep(sweep: str, rows: Sequence[Row], complete: bool) -> Content:
    """Return the content of a sweep's own run. complete: the sweep has ended."""
    counts = {state: sum(row["status"] == state for row in rows) for state in _STATES}
    metrics = {f"cells_{state}": float(count) for state, count in counts.items()}
    worst = next((state for state in ("pending", "failed") if counts[state]), "ok")
    return Content(
        sweep,
        {"sweep": sweep},
        {**metrics, "cells": float(len(rows))},
        {"farm.sweep": sweep, "farm.kind": "sweep", "farm.cells": str(len(rows))},
        _STATES[worst] if complete else "RUNNING",
    )
