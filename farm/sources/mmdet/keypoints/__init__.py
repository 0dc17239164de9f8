"""Detectors of keypoints: boxes out of the peaks of heatmaps.

A new head is one function, and one line in `READERS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
from mmdet.models import dense_heads
from mmdet.models.detectors import SingleStageDetector
from torch import Tensor, nn

from farm.sources.mmdet.candidates import Candidates, suppress, suppression
from farm.sources.mmdet.forms import limits, packed, require_test_path
from farm.sources.mmdet.keypoints import centers, corners

Read = Callable[[Any, tuple[Any, ...], Tensor], Candidates]
"""head, its outputs (per kind a list of levels), limits [4] (W H W H in pixels)."""

READERS: dict[type, tuple[Read, bool]] = {
    dense_heads.CentripetalHead: (corners.centripetalnet, True),
    dense_heads.CornerHead: (corners.cornernet, True),
    dense_heads.CenterNetHead: (centers.centernet, False),
}
"""By head class, looked up along the MRO: how it is read, and whether boxes are suppressed."""

_RULES = (
    "get_bboxes", "_get_bboxes_single", "_bboxes_nms", "decode_heatmap", "forward",
    "forward_single", "simple_test", "simple_test_bboxes",
)  # fmt: skip


class Keypoints(nn.Module):
    """images float32 [N, 3, H, W] -> dets [N, K, 5], labels int64 [N, K]; see `graphs.graph`."""

    clips_boxes = False

    def __init__(self, model: Any) -> None:
        super().__init__()
        require_test_path(model, SingleStageDetector)
        self.model, head = model, model.bbox_head
        self.read, suppresses = _reader(head)
        limit = head.test_cfg.get("max_per_img")
        self.how = suppression(head.test_cfg, limit) if suppresses else None

    def candidates(self, images: Tensor) -> Candidates:
        """What there is before the final suppression, where a graph can be cut."""
        outs = self.model.bbox_head(self.model.extract_feat(images))
        return self.read(self.model.bbox_head, outs, limits(images))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        found = self.candidates(images)
        return packed(found if self.how is None else suppress(found, self.how))


def _reader(head: Any) -> tuple[Read, bool]:
    name = type(head).__name__
    base = next((kind for kind in type(head).__mro__ if kind in READERS), None)
    if base is None:
        raise ValueError(f"head {name} cannot be exported yet")
    own = [r for r in _RULES if getattr(type(head), r, None) is not getattr(base, r, None)]
    if own:
        raise ValueError(f"head {name} has its own {own[0]}, which cannot be exported yet")
    return READERS[base]
