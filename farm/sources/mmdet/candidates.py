"""Selects, decodes and suppresses candidate boxes as mmdet does, vectorised over the batch.

A row that does not count has score 0 in every array here, so that no shape depends on the data.
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
"""Most pairs of prior and class before suppression, where mmdet takes all above the threshold.

The result equals mmdet's unless more pairs pass the threshold and fewer than `max_per_img` of these
survive. Without the limit, suppression would get every prior with every class (1.8 million boxes
for YOLOv3 at 608x608).
"""

RATIO = abs(float(np.log(16 / 1000)))
"""mmdet's bound on the ratio of a box's size to its prior's, as a logarithm."""


@dataclass(frozen=True)
class Candidates:
    """boxes [N, M, 4] x1 y1 x2 y2; scores [N, M], 0 where empty; labels int64 [N, M]."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor


def require_counts(test_cfg: Any) -> None:
    """Check that the limits on the number of boxes are whole numbers.

    Raises:
        ValueError: one is not.
    """
    for name in ("nms_pre", "max_per_img"):
        value = test_cfg.get(name)
        if value is not None and type(value) is not int:
            raise ValueError(f"{name}: {value!r} is not a whole number; give how many boxes go on")


def suppression(test_cfg: Any, max_per_img: int | None) -> Suppression:
    """Return the settings of suppression as mmdet's `batched_nms` and its callers read them.

    Raises:
        ValueError: this kind of suppression cannot be exported, or a limit is no whole number.
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
    nms.pop("split_thr", None)  # splitting by class does not change the result
    if nms:
        raise ValueError(f"options of nms that cannot be exported: {', '.join(sorted(nms))}")
    limits = [n for n in (limit, max_per_img) if n is not None and n > 0]
    return Suppression(float(iou), bool(agnostic), min(limits, default=CAP), decay)


def _decay(iou: float, nms: dict[str, Any]) -> Decay:
    """Soft-NMS's options, removed from `nms`; ValueError for a method that mmcv lacks."""
    options = {name: nms.pop(name) for name in ("sigma", "min_score", "method", "offset")
               if name in nms}  # fmt: skip
    decay = Decay(iou, **options)
    if decay.method not in METHODS:
        raise ValueError(f"soft_nms by {decay.method!r} is not known; only {', '.join(METHODS)}")
    return decay


def rows(feature: Tensor, size: int) -> Tensor:
    """Reorder [N, A * size, h, w] to [N, h * w * A, size], mmdet's order of priors."""
    return feature.permute(0, 2, 3, 1).reshape(feature.shape[0], -1, size)


def take(values: Tensor, index: Tensor) -> Tensor:
    """Gather rows: values [N, P, D] and index [N, k] -> [N, k, D]."""
    return values.gather(1, index.unsqueeze(2).expand(-1, -1, values.shape[2]))


def top(values: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """Return the best min(limit, M) entries of [N, M], best first, and their indices.

    While tracing, M is a tensor and must stay one: a graph with dynamic axes then takes fewer rows
    from smaller images. (`Min` does not support int64 at opset 11, hence `where`.)
    """
    extent = values.shape[1]
    if isinstance(extent, Tensor):
        return values.topk(torch.where(extent < limit, extent, torch.tensor(limit)), dim=1)
    return values.topk(min(limit, extent), dim=1)


def best_rows(scores: Tensor, limit: int) -> Tensor:
    """Return indices [N, k] of the rows of [N, P, C] with the best maxima, k = min(limit, P).

    They contain the best `limit` entries; selecting rows first makes the sort over all entries
    small.
    """
    return top(scores.amax(2), limit)[1]


def best_pairs(scores: Tensor, limit: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return score, row and column, each [N, k], of the best `limit` entries of [N, P, C]."""
    classes = scores.shape[2]
    best, index = top(scores.flatten(1), limit)
    row = torch.div(index, classes, rounding_mode="trunc")
    return best, row, index - row * classes


def decode(
    coder: Any, priors: Tensor, deltas: Tensor, limits: Tensor | None, ratio: float = RATIO
) -> Tensor:
    """Decode boxes as mmdet's `delta2bbox`, for any leading axes.

    limits [4]: W H W H in pixels, to which boxes are clipped; None for no clipping.
    """
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
    """Return the survivors, best first, at most `how.keep` per image; empty rows at the end.

    Greedy NMS and soft-NMS both pick in the order of scores (which soft-NMS lowers), so stopping at
    `keep` gives the same as truncating afterwards, as mmdet does. Classes are separated by mmdet's
    own offset (the largest coordinate of the rows that count, plus one, times the class), so that
    rounding is the same.
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
    return best_candidates(found, scores, how.keep)


def best_candidates(found: Candidates, scores: Tensor, keep: int) -> Candidates:
    """Select the `keep` candidates of the highest `scores` [N, M] per image, best first."""
    scores, index = top(scores, keep)
    return Candidates(take(found.boxes, index), scores, found.labels.gather(1, index))


def _greedy(boxes: Tensor, scores: Tensor, how: Suppression) -> Tensor:
    """`scores` [N, M], set to 0 in rows that do not survive."""
    survivors = NonMaxSuppression.apply(boxes, scores.unsqueeze(1), how.keep, how.iou)
    place = survivors[:, 0] * scores.shape[1] + survivors[:, 2]
    ones = torch.ones_like(place).to(boxes.dtype)
    kept = torch.zeros_like(scores).flatten().scatter(0, place, ones)
    return scores * kept.view_as(scores)


def join(levels: list[Candidates]) -> Candidates:
    """Concatenate the candidates of all levels along the rows."""
    return Candidates(
        torch.cat([level.boxes for level in levels], 1),
        torch.cat([level.scores for level in levels], 1),
        torch.cat([level.labels for level in levels], 1),
    )


def select_rows(values: Tensor, index: Tensor) -> Tensor:
    """Select values [N, P, ...] by index [N, k] -> [N, k, ...].

    Like `take` for values of any rank; it needs no index as large as the result.
    """
    first = torch.arange(values.shape[0], device=index.device).unsqueeze(1) * values.shape[1]
    chosen = values.flatten(0, 1).index_select(0, (index + first).flatten())
    return chosen.reshape(-1, index.shape[1], *values.shape[2:])
