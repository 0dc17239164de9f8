"""One model's trials: export it at an opset, run it on a runtime, compare it with mmdet itself.

An export is the same detector if every box that PyTorch scores over 0.3 has its box, no box is
added, and the masks are the same.
"""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from farm import specs
from farm.detections.compare import Agreement, compare
from farm.engine.local import LocalExecutor
from farm.engine.scheduler import Outcome, StepStatus, Unwatched, run_steps
from farm.errors import in_one_line
from farm.models.records import Trial
from farm.plan.content.configs import config_file
from farm.plan.making import export_step, step_to_build
from farm.plan.placement import cpu_model
from farm.sources import mmdet as source
from farm.sources.mmdet import random_weights
from farm.stages import Context
from farm.stages.engines import opened
from farm.stages.inference import decoding_of, detect, network_batch
from farm.store import Store
from farm.units import Dims

if TYPE_CHECKING:
    from farm.detections import Detections
    from farm.models.families import Family
    from farm.plan import Step
    from farm.runtimes import Session

log = logging.getLogger(__name__)

SAME = specs.Tolerance(
    min_iou=0.99,
    min_matched_fraction=1.0,
    max_box_diff_px=math.inf,  # the overlap says it
    # Of random masks, on their mean: one pixel at the threshold is 0.06 of a small one.
    min_mask_iou=0.0,
    min_mean_mask_iou=0.99,
)
MIN_BOXES, MIN_CLASSES, MIN_SIZE_RATIO = 20, 3, 1.5


class Subject:
    """A family's model with its random weights, in a folder of its own."""

    def __init__(self, family: Family, folder: Path) -> None:
        torch.set_num_threads(1)
        self.family, self.folder = family, folder
        path = folder / "model.pth"
        self.model = specs.Model(
            family.name, "mmdet", config_file(family.config, Path()), specs.File(str(path), ""),
            tuple(family.options.items()),
        )  # fmt: skip
        random_weights.write(self.model, family.layer_outputs, family.shape, family.seed)
        self.detector = source.load(self.model)
        self.expected = cache(self._expected)

    def _expected(self, dims: Dims) -> list[Detections]:
        images = random_weights.noise(dims, self.family.seed)
        return [self.detector.reference_as_graph(image) for image in images]

    def weights_unusable(self) -> str | None:
        """Return why a comparison with these weights would show nothing; None if it would."""
        return self._little_to_compare() or self._unstable()

    def _unstable(self) -> str | None:
        """Return how much answers change with the last digits of an image; None if they do not.

        Where they do, an engine that sums in another order is as right as PyTorch.
        """
        dims = replace(self.family.shape, n=2)
        images = random_weights.noise(dims, self.family.seed)
        for image, expected, factor in zip(
            images, self.expected(dims), (1 - 2e-7, 1 + 2e-7), strict=True
        ):
            moved = self.detector.reference_as_graph(image * np.float32(factor))
            found = compare([expected], [moved], SAME)
            trial = with_agreement(Trial(opset=0, kind="", runtime=""), found)
            if trial.reason or trial.score_diff > SAME.max_score_diff / 2:
                reason = trial.reason or f"scores differ by {trial.score_diff:.1e}"
                return f"the random weights are chaotic: with an image moved by 2e-7, {reason}"
        return None

    def _little_to_compare(self) -> str | None:
        """Return what is missing of twenty boxes, some classes, and sizes that differ by half."""
        found = [one for dims in self.sizes("dynamic") for one in self.expected(dims)]
        kept = [one.boxes[one.scores > SAME.min_score] for one in found]
        most, boxes = max(map(len, kept)), np.concatenate(kept)
        labels = np.concatenate([one.labels[one.scores > SAME.min_score] for one in found])
        classes = len(set(labels.tolist()))
        if most < MIN_BOXES or classes < min(MIN_CLASSES, len(self.detector.facts.classes)):
            return f"the random weights find {most} boxes of {classes} classes: nothing to compare"
        edges = np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
        small, large = np.percentile(edges, [5, 95])
        if large < MIN_SIZE_RATIO * small:
            return f"the random weights find boxes of {small:.0f} to {large:.0f} px: one size"
        return None

    def trials(
        self, opsets: Sequence[int], kinds: Sequence[str], runtimes: Sequence[str]
    ) -> Iterator[Trial]:
        """Run the trials: one file per opset and kind, which every runtime runs."""
        for opset in opsets:
            for kind in kinds:
                yield from self._file(opset, kind, runtimes)

    def _file(self, opset: int, kind: str, runtimes: Sequence[str]) -> Iterator[Trial]:
        """Run one file's steps in a store that is then deleted, since files are large."""
        trials = [Trial(opset=opset, kind=kind, runtime=name) for name in runtimes]
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            store = Store(Path(scratch) / "store")
            exported, builds = self._steps(opset, kind, runtimes)
            steps = {step.key: step for step in (exported, *builds)}
            outcomes = run_steps(steps, store, lambda: LocalExecutor(store), Unwatched())
            record = store.record(exported.ref)
            if record is None:
                reason = outcomes[exported.key].reason
                yield from (replace(trial, reason=reason) for trial in trials)
                return
            nodes, seconds = record.figures["onnx_nodes"], round(record.seconds, 2)
            for trial, build in zip(trials, builds, strict=True):
                found = self._run(trial, build, outcomes[build.key], store)
                yield replace(found, nodes=nodes, export_s=seconds)

    def _steps(self, opset: int, kind: str, runtimes: Sequence[str]) -> tuple[Step, list[Step]]:
        """Return the export, and a build for each runtime, as a sweep on this CPU has them."""
        shape, label = self.shape(kind), f"{self.family.name} op{opset} {kind}"
        exported = export_step(label, specs.ExportInputs(self.model, shape, opset))
        target = specs.Target("cpu", cpu_model())
        options = [specs.EngineOptions(name, "fp32", shape) for name in runtimes]
        return exported, [
            step_to_build(f"{label} {one.runtime}", exported.ref, one, target, exported)
            for one in options
        ]

    def _run(self, trial: Trial, build: Step, outcome: Outcome, store: Store) -> Trial:
        if outcome.status is not StepStatus.DONE:
            return replace(trial, reason=f"cannot be built: {outcome.reason}")
        assert isinstance(build.inputs, specs.BuildInputs)
        engine = specs.Engine(build.inputs.options, build.ref, None)
        try:
            with opened(engine, Context(store, self.folder, 1), 1) as session:
                return self._compared(trial, session)
        except Exception as error:  # a runtime that refuses the file raises its own kinds
            log.debug("run failed", exc_info=True)
            return replace(trial, reason=f"cannot be run: {in_one_line(error)}")

    def _compared(self, trial: Trial, session: Session) -> Trial:
        decoding = decoding_of(self.detector.facts)
        for dims in self.sizes(trial.kind):
            batch = network_batch(random_weights.noise(dims, self.family.seed))
            found = list(detect(session, [batch], decoding))
            trial = with_agreement(trial, compare(self.expected(dims), found, SAME))
            if trial.reason:
                return replace(trial, reason=f"{dims}: {trial.reason}")
        return trial

    def shape(self, kind: str) -> specs.Shape:
        """Return the profile that has every size of this kind."""
        sizes, opt = self.sizes(kind), self.family.shape
        low = Dims(1, 3, min(x.h for x in sizes), min(x.w for x in sizes))
        high = Dims(max(x.n for x in sizes), 3, max(x.h for x in sizes), max(x.w for x in sizes))
        return specs.Shape(kind, low, opt, high)

    def sizes(self, kind: str) -> list[Dims]:
        """Return the sizes that a file of this kind is run with.

        A file with dynamic axes gets batches of 1 and 2 at the traced size, and two other sizes.
        """
        shape = self.family.shape
        if kind == "fixed":
            return [shape]
        return [shape, replace(shape, n=2), *self.family.others]


def with_agreement(trial: Trial, found: Agreement) -> Trial:
    """Return `trial` with an agreement added; its `reason` says which tolerance is exceeded."""
    return replace(
        trial,
        reason=_reason(found) if found.reason and found.boxes else None,
        boxes=trial.boxes + found.matched,
        score_diff=max(trial.score_diff, found.max_score_diff or 0.0),
        box_diff_px=max(trial.box_diff_px, found.max_box_diff_px or 0.0),
        mask_iou=min(
            (x for x in (found.mean_mask_iou, trial.mask_iou) if x is not None), default=None
        ),
    )


def _reason(found: Agreement) -> str:
    """Return the reason as the table's records state it."""
    if found.lost or found.added or found.moved:
        return (
            f"of {found.boxes} boxes {found.lost} are lost, {found.added} added, {found.moved}"
            f" overlap less than {SAME.min_iou}"
        )
    if found.max_score_diff is not None and found.max_score_diff > SAME.max_score_diff:
        return f"scores differ by {found.max_score_diff:.1e}"
    return f"masks overlap by {found.mean_mask_iou:.3f} on average"
