"""Dense heads: from a head's raw outputs to candidates, by the rules of its own `get_bboxes`.

A new head is one function in a file of its kind, and one line in `READERS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
from mmdet.core.bbox.coder import DeltaXYWHBBoxCoder, YOLOBBoxCoder
from mmdet.models import dense_heads
from torch import Tensor, nn

from farm.sources.mmdet.candidates import Candidates
from farm.sources.mmdet.dense import anchors, yolo

Read = Callable[[Any, tuple[Any, ...], Tensor], Candidates]
"""head, its outputs (per kind a list of levels), limits [4] (W H W H in pixels)."""

READERS: dict[type, tuple[Read, type | None]] = {
    dense_heads.YOLOXHead: (yolo.yolox, None),
    dense_heads.YOLOV3Head: (yolo.yolov3, YOLOBBoxCoder),
    dense_heads.AnchorHead: (anchors.anchors, DeltaXYWHBBoxCoder),
}
"""By head class, looked up along the MRO: how its outputs are read, and the box coder it needs."""

_RULES = (
    "get_bboxes", "_get_bboxes_single", "_bbox_post_process", "_bboxes_nms", "_bbox_decode",
    "simple_test", "simple_test_bboxes",
)  # fmt: skip


def reader(head: nn.Module) -> Read:
    """The function that reads this head's outputs.

    Raises:
        ValueError: none does: a head, a rule of its own, or a box coder that is not known here.
    """
    name = type(head).__name__
    base = next((kind for kind in type(head).__mro__ if kind in READERS), None)
    if base is None:
        raise ValueError(f"head {name} cannot be exported yet")
    own = [rule for rule in _RULES if getattr(head, rule, None) is not None
           and getattr(type(head), rule) is not getattr(base, rule)]  # fmt: skip
    if own:
        raise ValueError(f"head {name} has its own {own[0]}, which cannot be exported yet")
    read, coder = READERS[base]
    if coder is not None and type(head.bbox_coder) is not coder:
        raise ValueError(f"box coder {type(head.bbox_coder).__name__} cannot be exported yet")
    return read
