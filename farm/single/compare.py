"""Prepare an image, and compare two ways of running a model on it by a sweep's tolerance."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from farm.detections import Detections, Floats, ImageMeta, raw
from farm.detections.compare import Agreement, compare, raw_agreement
from farm.preprocess import preparer
from farm.single.inputs import fixed_shape
from farm.specs import Tolerance

if TYPE_CHECKING:
    from farm import specs
    from farm.specs import Dims

Outputs = Mapping[str, Any]

_BEST = 20
"""How many boxes are compared where none reaches the score of a sweep's tolerance."""


@dataclass(frozen=True)
class Answers:
    """What one way of running returned for a batch: boxes in network pixels, or raw outputs."""

    name: str
    found: Sequence[Detections] | None
    outputs: Outputs


def print_comparison(reference: Answers, engine: Answers, size: str) -> bool:
    """Print how far the two agree. Return whether they do, and there was something to compare."""
    names = f"{reference.name} and {engine.name}"
    if reference.found is None or engine.found is None:
        reason, summary = _compare_raw(reference.outputs, engine.outputs)
    elif not any(map(len, (*reference.found, *engine.found))):
        advice = "give an image of what the model knows as --input-img"
        print(f"{names}: nothing to compare at {size}: neither finds a box; {advice}")
        return False
    else:
        reason, summary = _compare(reference.found, engine.found)
    print(
        f"{names} differ at {size}: {reason}" if reason else f"{names} agree at {size}: {summary}"
    )
    return reason is None


def _compare(
    reference: Sequence[Detections], engine: Sequence[Detections]
) -> tuple[str | None, str]:
    tolerance = _tolerance(reference if any(map(len, reference)) else engine)
    result = compare(reference, engine, tolerance)
    return result.reason, _summary(result, tolerance.min_score)


def _tolerance(found: Sequence[Detections]) -> Tolerance:
    """Return a sweep's tolerance, with a lower score where no box reaches the usual one."""
    tolerance = Tolerance()
    scores = np.sort(np.concatenate([one.scores for one in found]))[::-1]
    if scores[0] >= tolerance.min_score:
        return tolerance
    return Tolerance(min_score=float(scores[:_BEST][-1]))


def _summary(result: Agreement, min_score: float) -> str:
    summary = f"{result.boxes} boxes that score {min_score:.2g} or more"
    if result.max_score_diff is not None:
        summary += f", scores within {result.max_score_diff:.1e}"
    if result.max_box_diff_px is not None:
        summary += f", corners within {result.max_box_diff_px:.1e} px"
    if result.min_mask_iou is not None:
        summary += f", masks' IoU at least {result.min_mask_iou:.4f}"
    return summary


def _compare_raw(reference: Outputs, engine: Outputs) -> tuple[str | None, str]:
    result = raw_agreement(vars(raw.compare([reference], [engine])), Tolerance())
    summary = f"{len(reference)} raw outputs"
    if result.max_rel_diff is not None:
        summary += f" within {result.max_rel_diff:.1e} of their greatest value"
    return result.reason, summary


@dataclass(frozen=True)
class Sample:
    """network: float32 [3, H, W], prepared. picture: uint8 [H, W, 3], BGR, the same to look at."""

    network: Floats
    picture: npt.NDArray[np.uint8]
    meta: ImageMeta


def prepare_sample(path: Path | None, facts: specs.ModelFacts, size: Dims) -> Sample:
    """Return the image letterboxed to `size`; without a path, an image drawn by seed.

    Raises:
        StepFailed: the file is not an image.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = path or _drawn(Path(folder), size)
        prepare = preparer(facts.pipeline, fixed_shape(size))
        network, meta = prepare(str(path), 0, path.name)
        return Sample(network.astype(np.float32), _picture(path, meta), meta)


def _drawn(folder: Path, size: Dims) -> Path:
    import cv2

    from farm.datasets.synthetic import draw_scene

    path = folder / "drawn.png"
    cv2.imwrite(str(path), draw_scene(seed=7, number=1, size=min(size.h, size.w)).image)
    return path


def _picture(path: Path, meta: ImageMeta) -> Any:
    import cv2

    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    assert image is not None  # the network's input was made of it
    picture = np.zeros((meta.height, meta.width, 3), np.uint8)
    inside = slice(meta.top, meta.top + meta.valid_h), slice(meta.left, meta.left + meta.valid_w)
    picture[inside] = cv2.resize(image, (meta.valid_w, meta.valid_h))
    return picture
