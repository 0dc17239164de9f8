"""Matrix NMS: every mask's score decays by its overlap with better ones, in one step.

Xinlong Wang et al., SOLOv2: Dynamic and Fast Instance Segmentation, section 3.3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from torch import Tensor


def decayed(masks: Tensor, areas: Tensor, labels: Tensor, scores: Tensor, cfg: Any) -> Tensor:
    """The scores [N, k] that `mask_matrix_nms` gives, in the same order; 0 under `filter_thr`.

    masks [N, k, P] of zeros and ones; areas [N, k] their sums; labels int64 [N, k]; scores
    [N, k], 0 for rows that do not take part. cfg: `kernel`, `sigma`, `filter_thr`.

    mmdet sorts, and lets each row decay those after it. Here nothing moves: whoever has the
    better score comes before.
    """
    inner = masks @ masks.transpose(1, 2)
    union = areas.unsqueeze(2) + areas.unsqueeze(1) - inner
    counts = _before(scores) & (labels.unsqueeze(2) == labels.unsqueeze(1))
    overlap = inner / union.clamp(min=1) * counts.to(masks.dtype)
    # How far each row was itself decayed takes that much off what it does to others.
    own = overlap.amax(1).unsqueeze(2)
    decay = _kernel(cfg)
    scores = scores * (decay(overlap) / decay(own)).amin(1)
    if cfg.filter_thr > 0:
        scores = torch.where(scores >= cfg.filter_thr, scores, torch.zeros_like(scores))
    return scores


def _before(scores: Tensor) -> Tensor:
    """Bool [N, k, k]: whether row i comes before row j by score, then by place."""
    place = torch.arange(scores.shape[1], device=scores.device)
    row, column = scores.unsqueeze(2), scores.unsqueeze(1)
    earlier = place.unsqueeze(1) < place.unsqueeze(0)
    return (row > column) | ((row == column) & earlier.unsqueeze(0))


def _kernel(cfg: Any) -> Callable[[Tensor], Tensor]:
    if cfg.kernel == "linear":
        return lambda overlap: 1 - overlap
    return lambda overlap: torch.exp(-cfg.sigma * overlap**2)
