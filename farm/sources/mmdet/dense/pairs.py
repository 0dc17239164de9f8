"""The best pairs of a prior and a class on one level of a dense head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from torch import Tensor

from farm.sources.mmdet.candidates import POOL, best_pairs, best_rows, require_counts, rows, take


@dataclass(frozen=True)
class Pairs:
    """Pairs of one level, each field [N, k]: scores (0: does not count), prior, class."""

    scores: Tensor
    prior: Tensor
    label: Tensor


def require_limits(head: Any) -> None:
    """Check the limits on the number of boxes.

    Raises:
        ValueError: mmdet would use a limit in a slice, with a result that cannot be intended.
    """
    test_cfg = head.test_cfg
    require_counts(test_cfg)
    if test_cfg.get("nms_pre", -1) == 0:
        raise ValueError("nms_pre: 0 keeps no box at all; -1 takes all")
    if test_cfg.max_per_img <= 0:
        raise ValueError(
            f"max_per_img: {test_cfg.max_per_img} drops the lowest boxes in mmdet; give how many"
            " to keep"
        )


def best_of_level(head: Any, logits: Tensor, activated: bool = False) -> Pairs:
    """Return the pairs over `score_thr` from logits [N, A * C, h, w]: `filter_scores_and_topk`.

    At most `nms_pre` are selected, by the class score alone (factors are applied later).

    activated: the head's output is scores, not logits.

    With `nms_pre: -1` mmdet takes all but the lowest pair of the level, since it slices `[:-1]`.
    Here, at most `POOL` of them are taken.
    """
    limit, threshold = head.test_cfg.get("nms_pre", -1), head.test_cfg.score_thr
    # The sigmoid is monotonic, so it is computed for the selected rows only.
    scores = rows(logits, head.cls_out_channels)
    scores = scores if activated or head.use_sigmoid_cls else scores.softmax(-1)
    chosen = best_rows(scores[..., : head.num_classes], limit) if limit > 0 else _all_rows(scores)
    # The background is dropped after gathering: OpenVINO fuses the two into an invalid operation.
    scores = take(scores, chosen)[..., : head.num_classes]
    scores = scores.sigmoid() if head.use_sigmoid_cls and not activated else scores
    scores, row, label = best_pairs(scores, limit if limit > 0 else POOL)
    passed = scores > threshold
    if limit < 0:  # sorted, so a pair counts if another follows `-limit` rows later
        passed = torch.cat([passed[:, -limit:], torch.zeros_like(passed[:, :-limit])], 1)
    scores = torch.where(passed, scores, torch.zeros_like(scores))
    return Pairs(scores, chosen.gather(1, row), label)


def _all_rows(scores: Tensor) -> Tensor:
    index = torch.arange(scores.shape[1], device=scores.device)
    return index.unsqueeze(0).expand(scores.shape[0], -1)
