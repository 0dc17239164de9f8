"""What the store knows of a cell whose engine leaves: its row, its records and its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from farm.cli.recorded import leaderboard_row
from farm.detections import files
from farm.errors import InputError
from farm.results.picking.shipping import altered
from farm.specs import Dims, EngineOptions, Ref, Shape
from farm.specs.pipeline import is_mmdets
from farm.store.records import HERE, model_facts

if TYPE_CHECKING:
    from farm.cli.results import Results
    from farm.detections import Detections
    from farm.results.columns import Row
    from farm.specs import ModelFacts
    from farm.store import Record, Store

BUNDLED = ("onnxruntime", "openvino", "tensorrt")
"""The runtimes whose engines `detector.py` opens."""

_STAGES = ("check", "prepare", "export", "convert", "build", "verify", "evaluate")
"""Of which a bundle needs the records."""


@dataclass(frozen=True)
class FinishedCell:
    """A cell that is done. records: of its steps, by stage; options: how its engine was built."""

    row: Row
    records: Mapping[str, Record]
    facts: ModelFacts
    options: EngineOptions
    store: Store

    @property
    def onnx(self) -> Path:
        """The ONNX file that the engine was built from."""
        stage = "convert" if "convert" in self.records else "export"
        return self.store.files(self._ref(stage)) / "model.onnx"

    @property
    def engine(self) -> Path:
        """The folder of the engine's files."""
        return self.store.files(self._ref("build")) / "engine"

    @property
    def runtime(self) -> str:
        """The runtime's name without its release."""
        return self.options.runtime.partition("@")[0]

    @property
    def runtime_version(self) -> str:
        """The version that built the engine."""
        return str(self.row["runtime_version"])

    def artifact(self, stage: str) -> Path:
        """Return the folder of the files of one of its steps."""
        return self.store.files(self._ref(stage))

    def kept_detections(self, image: int) -> Detections | None:
        """Return the boxes that the engine found in an image of its data set when it was verified.

        They are in pixels of the network's input, before anything is clipped. None where they were
        not kept: of images that were not verified, of earlier versions, or altered since.
        """
        ref, name = self._ref("verify"), "detections.npz"
        if name not in self.records["verify"].files or self.store.altered(ref):
            return None
        found = files.load(self.store.files(ref) / name)
        return found[image] if image < len(found) else None

    def _ref(self, stage: str) -> Ref:
        return Ref(stage, self.records[stage].key)


def finished_cell(cell: str, results: Results, sweep: str | None) -> FinishedCell:
    """Return a cell of the leaderboard with its records.

    sweep: needed where several sweeps have a cell of that name.

    Raises:
        InputError: there is no such cell, it is not done, its files are not here or were altered,
            or no program without the farm could run it.
        OSError: a file cannot be read.
    """
    row = leaderboard_row(cell, results, sweep)
    _require_done(row)
    store = results.store()
    refs = {one: Ref(one, row[f"{one}_key"]) for one in _STAGES if row.get(f"{one}_key")}
    store.learn(refs.values())
    found = {stage: store.record(ref) for stage, ref in refs.items()}
    lost = [stage for stage, record in found.items() if record is None]
    if lost:
        raise InputError(f"its {lost[0]} is not in the store any more; run the sweep again", cell)
    if reason := altered(row, store):
        raise InputError(reason, cell)
    records = {stage: record for stage, record in found.items() if record}
    facts = model_facts(records["check"].figures)
    if is_mmdets(facts.pipeline):
        raise InputError(
            "its test pipeline has transforms that only MMDetection runs, so that images cannot be"
            " prepared without it",
            cell,
        )
    options = _options(row, records["build"])
    if dict(options.options).get("plugins"):
        raise InputError("its engine needs plug-in libraries, which a bundle does not have", cell)
    return FinishedCell(row, records, facts, options, store)


def _require_done(row: Row) -> None:
    """Raises InputError for a cell that has no engine which could leave."""
    runtime = row["runtime"].partition("@")[0]
    if row["status"] != "ok":
        why = row["reason"] or "it has not been run"
        raise InputError(f"it is {row['status']}: {why}", row["cell"])
    if runtime not in BUNDLED:
        raise InputError(
            f"engines of {runtime} cannot be bundled; those of {', '.join(BUNDLED)} can",
            row["cell"],
        )
    if row["origin"] != HERE:
        raise InputError(
            f"its engine has stayed on the machine that it is imported from ({row['origin']});"
            " bundle it there",
            row["cell"],
        )
    if row["postprocess"] == "none":
        raise InputError(
            "its graph ends at raw outputs, from which nothing but MMDetection makes boxes; bundle"
            " a cell of postprocess graph or host",
            row["cell"],
        )


def _options(row: Row, build: Record) -> EngineOptions:
    """Return the options that the engine was built with, from its record.

    Places that a build writes to (`timing_cache`) have no value there.
    """
    kept = build.inputs["options"]
    least, best, most = (Dims(**kept["shape"][end]) for end in ("min", "opt", "max"))
    return EngineOptions(
        kept["runtime"],
        kept["precision"],
        Shape(row["shape"], least, best, most),
        kept["workspace_bytes"],
        tuple((name, value) for name, value in kept["options"] if value != {}),
    )
