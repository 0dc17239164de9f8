"""What MLflow keeps of a cell and of a sweep: the content of a run, whatever keeps it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

EXPERIMENT = "farm"
SUPERSEDED = "farm.superseded"
"""The tag of a run whose cell has another run since, and which is removed; it has the id of that
one."""

ONNX = "model.onnx"
"""The name of an ONNX file among artifacts."""

DIGEST = "farm.digest"
PARENT = "mlflow.parentRunId"
NOTE = "mlflow.note.content"
RUN_NAME = "mlflow.runName"

OWN_TAGS = ("farm.", NOTE)
"""How the tags begin that are replaced when a run is written again; others are the users'."""


def now_ms() -> int:
    """Return the time as MLflow has it, in ms since 1970."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class Dataset:
    """The data set that a run has read. digest: at most 36 characters. source: JSON."""

    name: str
    digest: str
    source: str


@dataclass(frozen=True)
class Engine:
    """An engine as an external model of MLflow: its own files are in the farm's store.

    files: artifacts of the model by their paths: files, or texts.
    """

    name: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    files: Mapping[str, Path | str] = field(default_factory=dict)


@dataclass(frozen=True)
class Content:
    """The content of one run.

    cell: the cell that the run is of; the sweep's name for its own run. status: as MLflow names
    it; RUNNING while its sweep is under way. began, ended: of the work, in ms since 1970; None
    where that is not known. files: artifacts by their paths in the run: files, or texts.
    """

    cell: str
    name: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    status: str
    began: int | None = None
    ended: int | None = None
    dataset: Dataset | None = None
    engine: Engine | None = None
    files: Mapping[str, Path | str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Return the digest of what is logged of the cell."""
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

    @property
    def experiment(self) -> str:
        """The id of the farm's experiment."""

    def parent(self, sweep: Content) -> str:
        """Return the id of the sweep's run, which is created if there is none."""

    def children(self, parent: str) -> dict[str, Known]:
        """Return the run of each of the sweep's cells, and remove the others that a cell has: those
        of an update that was interrupted, and those that earlier versions of the farm left."""

    def write(
        self, parent: str, cells: Sequence[Content], known: Mapping[str, Known]
    ) -> dict[str, Known]:
        """Write the runs of the cells, and return them; known: those that cells have already."""

    def finish(self, parent: str, sweep: Content) -> None:
        """Write the content of the sweep's own run."""

    def attach(self, run: str, files: Mapping[str, Path | str]) -> None:
        """Add artifacts to a run."""
