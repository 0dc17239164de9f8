"""One model's trials: exported at an opset, run on a runtime, held against mmdet's own answers.

The bounds are those of the same detector: every box that PyTorch scores over 0.3 has its box,
none is added, and the masks are the same.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch

from farm import specs
from farm.detections import Detections
from farm.detections.convert import from_outputs, in_network_frame
from farm.detections.matching import Pairs, match
from farm.errors import FarmError, in_one_line
from farm.models.families import Family
from farm.models.records import Trial
from farm.plan.configs import config_file
from farm.runtimes import Session, runtime_module
from farm.sources import mmdet as source
from farm.sources.mmdet import random_weights
from farm.units import Dims

log = logging.getLogger(__name__)

MIN_SCORE, MIN_IOU, MAX_SCORE_DIFF = 0.3, 0.99, 1e-3
# Of random masks, on their mean: one pixel at the threshold is 0.06 of a small one.
MIN_MASK_IOU = 0.99
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
        random_weights.write(self.model, family.lift, family.shape, family.seed)
        self.detector = source.load(self.model)
        self.expected = cache(self._expected)

    def _expected(self, dims: Dims) -> list[Detections]:
        images = random_weights.noise(dims, self.family.seed)
        return [self.detector.reference_as_graph(image) for image in images]

    def unfit(self) -> str | None:
        """Why the weights tell nothing: few boxes, of one class or size, or chaos."""
        return self._poor() or self._unsteady()

    def _unsteady(self) -> str | None:
        """PyTorch's own answers may not depend on the last digits of the image.

        Where they do, an engine that sums in another order is no less right.
        """
        dims = replace(self.family.shape, n=2)
        images = random_weights.noise(dims, self.family.seed)
        for image, expected, factor in zip(
            images, self.expected(dims), (1 - 2e-7, 1 + 2e-7), strict=True
        ):
            moved = self.detector.reference_as_graph(image * np.float32(factor))
            held = judged(Trial(opset=0, kind="", runtime=""), match([expected], [moved]))
            if held.reason or held.score_diff > MAX_SCORE_DIFF / 2:
                reason = held.reason or f"scores differ by {held.score_diff:.1e}"
                return f"the random weights are chaotic: with an image moved by 2e-7, {reason}"
        return None

    def _poor(self) -> str | None:
        """Twenty boxes of one image, of some classes, of sizes that differ by half."""
        found = [one for dims in self.sizes("dynamic") for one in self.expected(dims)]
        kept = [one.boxes[one.scores > MIN_SCORE] for one in found]
        most, boxes = max(map(len, kept)), np.concatenate(kept)
        labels = np.concatenate([one.labels[one.scores > MIN_SCORE] for one in found])
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
        """One file per opset and kind, run by every runtime."""
        for opset in opsets:
            for kind in kinds:
                yield from self._file(opset, kind, runtimes)

    def _file(self, opset: int, kind: str, runtimes: Sequence[str]) -> Iterator[Trial]:
        shape = self.shape(kind)
        trials = [Trial(opset=opset, kind=kind, runtime=name) for name in runtimes]
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            path = Path(scratch) / "model.onnx"
            started = time.perf_counter()
            try:
                source.export_onnx(self.detector, shape, opset, path)
            except FarmError as error:
                yield from (replace(trial, reason=str(error)) for trial in trials)
                return
            seconds, nodes = time.perf_counter() - started, node_count(path)
            for trial in trials:
                found = self._run(trial, shape, path, Path(scratch) / trial.runtime)
                yield replace(found, nodes=nodes, export_s=round(seconds, 2))

    def _run(self, trial: Trial, shape: specs.Shape, path: Path, folder: Path) -> Trial:
        options = specs.EngineOptions(trial.runtime, "fp32", shape)
        module = runtime_module(trial.runtime)
        folder.mkdir()
        try:
            module.build(path, folder, options)
            session = module.open_engine(folder, options, 1)
        except Exception as error:  # a runtime that refuses the file raises its own kinds
            log.debug("build failed", exc_info=True)
            return replace(trial, reason=f"cannot be built: {in_one_line(error)}")
        try:
            return self._held(trial, session)
        except Exception as error:  # likewise while it runs
            log.debug("run failed", exc_info=True)
            return replace(trial, reason=f"cannot be run: {in_one_line(error)}")
        finally:
            session.close()

    def _held(self, trial: Trial, session: Session) -> Trial:
        facts = self.detector.facts
        for dims in self.sizes(trial.kind):
            outputs = session.run(random_weights.noise(dims, self.family.seed))
            found = [
                in_network_frame(one, (dims.h, dims.w), facts.mask_threshold, facts.mask_frame)
                for one in from_outputs(outputs)
            ]
            trial = judged(trial, match(self.expected(dims), found))
            if trial.reason:
                return replace(trial, reason=f"{dims}: {trial.reason}")
        return trial

    def shape(self, kind: str) -> specs.Shape:
        """The profile that holds every size of this kind."""
        sizes, opt = self.sizes(kind), self.family.shape
        low = Dims(1, 3, min(x.h for x in sizes), min(x.w for x in sizes))
        high = Dims(max(x.n for x in sizes), 3, max(x.h for x in sizes), max(x.w for x in sizes))
        return specs.Shape(kind, low, opt, high)

    def sizes(self, kind: str) -> list[Dims]:
        """What a file of this kind is run with: batch 1 and 2 at the traced size and two
        other sizes, where its axes are dynamic."""
        shape = self.family.shape
        if kind == "fixed":
            return [shape]
        return [shape, replace(shape, n=2), *self.family.others]


def judged(trial: Trial, pairs: Pairs) -> Trial:
    """`trial` with these pairs added; `reason` says which bound they break, if any."""
    reference, engine = pairs.reference_score, pairs.engine_score
    counted = (reference > MIN_SCORE) | (engine > MIN_SCORE)
    both = counted & np.isfinite(reference) & np.isfinite(engine)
    same = both & (pairs.iou >= MIN_IOU)
    lost, added = (
        int((counted & np.isnan(engine)).sum()),
        int((counted & np.isnan(reference)).sum()),
    )
    moved = int((both & ~same).sum())
    diff = np.fmax(np.abs(reference - engine), pairs.mask_score_diff)  # NaN: no scores of masks
    score = float(diff[same].max(initial=0))
    masks = pairs.mask_iou[same & np.isfinite(pairs.mask_iou)]
    overlap = float(masks.mean()) if len(masks) else None
    reason = None
    if lost or added or moved:
        total = int(counted.sum())
        reason = f"of {total} boxes {lost} are lost, {added} added, {moved} overlap less than 0.99"
    elif score > MAX_SCORE_DIFF:
        reason = f"scores differ by {score:.1e}"
    elif overlap is not None and overlap < MIN_MASK_IOU:
        reason = f"masks overlap by {overlap:.3f} on average"
    return replace(
        trial,
        reason=reason,
        boxes=trial.boxes + int(same.sum()),
        score_diff=max(trial.score_diff, score),
        box_diff_px=max(trial.box_diff_px, float(pairs.box_diff_px[same].max(initial=0))),
        mask_iou=min((x for x in (overlap, trial.mask_iou) if x is not None), default=None),
    )


def node_count(path: Path) -> int:
    """Nodes of an ONNX file's outermost graph."""
    import onnx

    return len(onnx.load(path, load_external_data=False).graph.node)
