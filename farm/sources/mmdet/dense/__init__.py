"""Dense heads: decodes a head's raw outputs to candidates, as its own `get_bboxes` does.

A new head is one function in a file of its kind, and one line in `READERS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
from mmdet.core.bbox import coder as coder_kinds
from mmdet.models import dense_heads
from torch import Tensor, nn

from farm.sources.mmdet.dense import anchors, coders, heads
from farm.sources.mmdet.dense.pairs import require_limits

if TYPE_CHECKING:
    from farm.sources.mmdet.candidates import Candidates

__all__ = ["READERS", "Reader", "clips_boxes", "reader"]


@dataclass(frozen=True)
class Reader:
    """How one kind of head is decoded.

    read(head, its outputs (one list of levels per output), limits [4] (W H W H in pixels)) returns
    the candidates. coders: the supported kinds of box coder, none where the head decodes itself.
    check(head) raises ValueError for settings that are not known here.
    finish(head, the result of `read`, the survivors of suppression) returns the final boxes,
    where they differ. clips: whether boxes are clipped to the image, where no coder decides it.
    """

    read: Callable[[Any, tuple[Any, ...], Tensor], Candidates]
    coders: tuple[type, ...] = ()
    check: Callable[[Any], None] = lambda head: None
    finish: Callable[[Any, Any, Candidates], Candidates] | None = None
    clips: bool | None = None


_DELTAS = (coder_kinds.DeltaXYWHBBoxCoder,)

READERS: dict[type, Reader] = {
    dense_heads.YOLOXHead: Reader(heads.yolox),
    dense_heads.YOLOV3Head: Reader(heads.yolov3, (coder_kinds.YOLOBBoxCoder,)),
    dense_heads.AnchorHead: Reader(heads.anchors, coders.KNOWN, check=require_limits),
    dense_heads.FCOSHead: Reader(heads.anchors, coders.KNOWN, check=require_limits),
    dense_heads.GFLHead: Reader(heads.gfl, coders.POINTS, check=require_limits),
    dense_heads.FoveaHead: Reader(heads.fovea, check=require_limits, clips=True),
    dense_heads.SABLRetinaHead: Reader(
        heads.sabl, (coder_kinds.BucketingBBoxCoder,), check=require_limits
    ),
    dense_heads.PAAHead: Reader(anchors.paa, _DELTAS, finish=anchors.voted),
    dense_heads.TOODHead: Reader(heads.tood, _DELTAS, heads.check, clips=False),
    dense_heads.RepPointsHead: Reader(heads.reppoints, check=require_limits, clips=True),
    dense_heads.GARetinaHead: Reader(anchors.guided, _DELTAS, anchors.check_guided),
}
"""Reader for a head's class, looked up along the MRO."""

_RULES = (
    "get_bboxes", "_get_bboxes_single", "_bbox_post_process", "_bboxes_nms", "_bbox_decode",
    "simple_test", "simple_test_bboxes", "score_voting",
)  # fmt: skip


def reader(head: nn.Module) -> Reader:
    """Return the reader for this head.

    Raises:
        ValueError: the head, a method that it overrides, or its box coder is not known here.
    """
    name = type(head).__name__
    base = next((kind for kind in type(head).__mro__ if kind in READERS), None)
    if base is None:
        raise ValueError(f"head {name} cannot be exported yet")
    own = [rule for rule in _RULES if getattr(head, rule, None) is not None
           and getattr(type(head), rule) is not getattr(base, rule, None)]  # fmt: skip
    if own:
        raise ValueError(f"head {name} has its own {own[0]}, which cannot be exported yet")
    known = READERS[base]
    if known.coders and type(head.bbox_coder) not in known.coders:
        raise ValueError(f"box coder {type(head.bbox_coder).__name__} cannot be exported yet")
    known.check(head)
    return known


def clips_boxes(head: Any) -> bool:
    """Return whether the head's boxes are clipped to the image."""
    stated = reader(head).clips
    return coders.clips(getattr(head, "bbox_coder", None)) if stated is None else stated
