"""Candidate boxes of a batch: the best chosen, decoded, suppressed; as mmdet does, vectorised.

A row that does not count has score 0, in every array here: masks keep shapes free of the data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import numpy as np
import torch
from torch import Tensor

from farm.sources.mmdet.patches.suppression import METHODS, NonMaxSuppression, soft_nms
from farm.specs import Decay, Suppression

CAP = 1000
"""Rows per image where mmdet sets no limit (YOLOX). COCO's AP reads the best 100 per image."""

POOL = 3000
"""Pairs of prior and class that suppression starts from where mmdet takes all over the threshold.

The result is mmdet's unless more than this pass and fewer than `max_per_img` of these survive;
without it every prior would enter with every class (1.8 million boxes for YOLOv3 at 608x608).
"""

RATIO = abs(float(np.log(16 / 1000)))
"""mmdet's bound on how much a box may grow or shrink, as a logarithm."""


@dataclass(frozen=True)
class Candidates:
    """boxes [N, M, 4] x1 y1 x2 y2; scores [N, M], 0 where empty; labels int64 [N, M]."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor


def require_counts(test_cfg: Any) -> None:
    """Raises ValueError where a limit on boxes is none."""
    for name in ("nms_pre", "max_per_img"):
        value = test_cfg.get(name)
        if value is not None and type(value) is not int:
            raise ValueError(f"{name}: {value!r} is not a whole number; give how many boxes go on")


def suppression(test_cfg: Any, max_per_img: int | None) -> Suppression:
    """The settings as mmdet's `batched_nms` and its callers read them.

    Raises:
        ValueError: a kind of suppression that has no ONNX operator, or limits that are none.
    """
    require_counts(test_cfg)
    nms = dict(test_cfg.get("nms") or {"type": None})
    kind = nms.pop("type", "nms")
    iou = nms.pop("iou_threshold", nms.pop("iou_thr", Decay.iou if kind == "soft_nms" else None))
    if kind not in ("nms", "soft_nms") or iou is None:
        known = "only 'nms' and 'soft_nms' can"
        raise ValueError(f"suppression of type {kind!r} cannot be exported; {known}")
    decay = _decay(float(iou), nms) if kind == "soft_nms" else None
    agnostic, limit = nms.pop("class_agnostic", False), nms.pop("max_num", -1)
    nms.pop("split_thr", None)  # splitting by class changes nothing in the result
    if nms:
        raise ValueError(f"options of nms that cannot be exported: {', '.join(sorted(nms))}")
    limits = [n for n in (limit, max_per_img) if n is not None and n > 0]
    return Suppression(float(iou), bool(agnostic), min(limits, default=CAP), decay)


def _decay(iou: float, nms: dict[str, Any]) -> Decay:
    """Out of `nms`, and taken from it; raises ValueError for a method that mmcv has not."""
    options = {name: nms.pop(name) for name in ("sigma", "min_score", "method", "offset")
               if name in nms}  # fmt: skip
    decay = Decay(iou, **options)
    if decay.method not in METHODS:
        raise ValueError(f"soft_nms by {decay.method!r} is not known; only {', '.join(METHODS)}")
    return decay


def rows(feature: Tensor, size: int) -> Tensor:
    """[N, A * size, h, w] -> [N, h * w * A, size], mmdet's order of priors."""
    return feature.permute(0, 2, 3, 1).reshape(feature.shape[0], -1, size)


def take(values: Tensor, index: Tensor) -> Tensor:
    """[N, P, D] and [N, k] -> [N, k, D]."""
    return values.gather(1, index.unsqueeze(2).expand(-1, -1, values.shape[2]))


def top(values: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """The best min(limit, M) of [N, M], best first, and where they were.

    While tracing the extent is a tensor, and stays one: a file with dynamic axes then takes
    fewer rows from smaller images. (`Min` has no int64 at opset 11, hence `where`.)
    """
    extent = values.shape[1]
    if isinstance(extent, Tensor):
        return values.topk(torch.where(extent < limit, extent, torch.tensor(limit)), dim=1)
    return values.topk(min(limit, extent), dim=1)


def best_rows(scores: Tensor, limit: int) -> Tensor:
    """Indices [N, k] of the rows of [N, P, C] that hold its `limit` best entries.

    No entry of the best `limit` can stand in another row; taking rows first makes the
    sort over all entries small.
    """
    return top(scores.amax(2), limit)[1]


def best_pairs(scores: Tensor, limit: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best `limit` entries of [N, P, C]: score, row and column, each [N, k]."""
    classes = scores.shape[2]
    best, index = top(scores.flatten(1), limit)
    row = torch.div(index, classes, rounding_mode="trunc")
    return best, row, index - row * classes


def decode(
    coder: Any, priors: Tensor, deltas: Tensor, limits: Tensor | None, ratio: float = RATIO
) -> Tensor:
    """mmdet's `delta2bbox` for any leading axes; limits [4] is W H W H, in pixels, if any."""
    deltas = deltas * deltas.new_tensor(coder.stds) + deltas.new_tensor(coder.means)
    shift, growth = deltas[..., :2], deltas[..., 2:]
    centre = (priors[..., :2] + priors[..., 2:]) * 0.5
    size = priors[..., 2:] - priors[..., :2]
    shift = size * shift
    if coder.add_ctr_clamp:
        shift = shift.clamp(min=-coder.ctr_clamp, max=coder.ctr_clamp)
        growth = growth.clamp(max=ratio)
    else:
        growth = growth.clamp(min=-ratio, max=ratio)
    centre, half = centre + shift, size * growth.exp() * 0.5
    boxes = torch.cat([centre - half, centre + half], -1)
    if limits is None or not coder.clip_border:
        return boxes
    return torch.minimum(boxes.clamp(min=0), limits)


def suppress(found: Candidates, how: Suppression) -> Candidates:
    """The survivors, best first, at most `how.keep` per image; empty rows at the end.

    Either kind picks in the order of scores (which soft-NMS lowers), so stopping at `keep` is
    the same as mmdet's cutting afterwards. Classes are kept apart by mmdet's own offset (the
    largest coordinate among what counts, plus one, times the class), for the same rounding.
    """
    boxes = found.boxes
    if not how.class_agnostic:
        counted = torch.where(found.scores.unsqueeze(2) > 0, boxes, torch.zeros_like(boxes))
        offset = counted.amax(2).amax(1, keepdim=True) + 1
        boxes = boxes + (found.labels.to(boxes.dtype) * offset).unsqueeze(2)
    if how.decay is not None:
        scores = soft_nms(boxes, found.scores, how.keep, how.decay)
    else:
        scores = _greedy(boxes, found.scores, how)
    scores, index = top(scores, how.keep)
    return Candidates(take(found.boxes, index), scores, found.labels.gather(1, index))


def _greedy(boxes: Tensor, scores: Tensor, how: Suppression) -> Tensor:
    """`scores` [N, M] of what survives, 0 for what does not."""
    picked = NonMaxSuppression.apply(boxes, scores.unsqueeze(1), how.keep, how.iou)
    place = picked[:, 0] * scores.shape[1] + picked[:, 2]
    ones = torch.ones_like(place).to(boxes.dtype)
    kept = torch.zeros_like(scores).flatten().scatter(0, place, ones)
    return scores * kept.view_as(scores)


def join(levels: list[Candidates]) -> Candidates:
    """One after the other along the rows."""
    return Candidates(
        torch.cat([level.boxes for level in levels], 1),
        torch.cat([level.scores for level in levels], 1),
        torch.cat([level.labels for level in levels], 1),
    )
