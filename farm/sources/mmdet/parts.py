"""What all exported modules share: what a detector and its parts must be, and their outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from mmcv.ops import DeformRoIPoolPack, ModulatedDeformRoIPoolPack, RoIAlign
from mmdet.core.bbox.coder import BucketingBBoxCoder, DeltaXYWHBBoxCoder, LegacyDeltaXYWHBBoxCoder
from mmdet.models.roi_heads import bbox_heads, mask_heads, roi_extractors
from torch import Tensor, nn

if TYPE_CHECKING:
    from farm.sources.mmdet.candidates import Candidates


_BOX_HEADS = (
    bbox_heads.BBoxHead,
    bbox_heads.ConvFCBBoxHead,
    bbox_heads.DoubleConvFCBBoxHead,
    bbox_heads.SCNetBBoxHead,
)


"""Box heads whose own `forward` is called: it returns logits and deltas, or None for deltas."""


DEFORM_POOLS = (DeformRoIPoolPack, ModulatedDeformRoIPoolPack)


def require_test_path(model: Any, kind: type) -> None:
    """Check that `model` is a `kind` and does not override its test path.

    Raises:
        ValueError: it is not, or overrides a method.
    """
    name = type(model).__name__
    if not isinstance(model, kind):
        raise ValueError(f"detector {name} cannot be exported yet")
    for rule in ("simple_test", "extract_feat"):
        if getattr(type(model), rule) is not getattr(kind, rule):
            raise ValueError(f"detector {name} has its own {rule}, which cannot be exported yet")


def require(part: nn.Module, kind: type, rules: tuple[str, ...]) -> None:
    """Check that `part` is a `kind` and overrides none of the named methods.

    Raises:
        ValueError: it is not, or overrides one; the message names the part and the method.
    """
    name = type(part).__name__
    if not isinstance(part, kind):
        raise ValueError(f"{name} cannot be exported yet; only {kind.__name__} can")
    if own := [r for r in rules if getattr(type(part), r) is not getattr(kind, r)]:
        raise ValueError(f"{name} has its own {own[0]}, which cannot be exported yet")


def require_plain_coder(part: Any) -> None:
    """Check that boxes are coded as shifts and growths (`DeltaXYWHBBoxCoder`).

    Raises:
        ValueError: they are not.
    """
    if type(part.bbox_coder) not in (DeltaXYWHBBoxCoder, LegacyDeltaXYWHBBoxCoder):
        raise ValueError(f"box coder {type(part.bbox_coder).__name__} cannot be exported yet")


def require_box_head(part: Any) -> None:
    """Check that `two_stage.regions.final` can decode the box head.

    Raises:
        ValueError: it cannot.
    """
    if isinstance(part, bbox_heads.SABLHead):
        require(part, bbox_heads.SABLHead, ("get_bboxes", "regress_by_class", "forward"))
        if type(part.bbox_coder) is not BucketingBBoxCoder:
            raise ValueError(f"box coder {type(part.bbox_coder).__name__} cannot be exported yet")
        return
    require(part, bbox_heads.BBoxHead, ("get_bboxes", "regress_by_class"))
    kind = next(base for base in type(part).__mro__ if base in _BOX_HEADS)
    require(part, kind, ("forward",))
    if not part.with_cls:
        raise ValueError("a box head without classes is not known")
    if part.with_reg:
        require_plain_coder(part)


def require_mask_head(part: Any) -> None:
    """Check that a mask head predicts one map of logits per box and class.

    Raises:
        ValueError: it does not.
    """
    require(part, mask_heads.FCNMaskHead, ("get_seg_masks", "forward"))


def require_binary_masks(head: Any) -> None:
    """Check that masks of a RoI head are thresholded at a probability.

    Raises:
        ValueError: they are not.
    """
    value = head.test_cfg.get("mask_thr_binary", 0.5)
    if type(value) not in (int, float) or value < 0:
        raise ValueError(
            f"mask_thr_binary: {value!r} is not known here (below 0 are soft masks); give the"
            " probability from which a pixel is the object's"
        )


def require_extractor(part: Any) -> None:
    """Check that features are pooled by square RoIAlign, as `two_stage.pooling` does.

    Raises:
        ValueError: they are not.
    """
    generic = isinstance(part, roi_extractors.GenericRoIExtractor)
    kinds = roi_extractors.GenericRoIExtractor, roi_extractors.SingleRoIExtractor
    require(part, kinds[0] if generic else kinds[1], ("forward", "roi_rescale"))
    if not generic:
        require(part, kinds[1], ("map_roi_levels",))
    for layer in part.roi_layers:
        if type(layer) in DEFORM_POOLS and layer.sampling_ratio <= 0:
            continue
        if not isinstance(layer, RoIAlign) or layer.pool_mode != "avg" or layer.use_torchvision:
            raise ValueError("only RoIAlign with average pooling can be exported")
        if layer.output_size[0] != layer.output_size[1]:
            raise ValueError(f"RoIAlign to {layer.output_size} is not square")


def limits(images: Tensor) -> Tensor:
    """Return W H W H of the network's input, traced so that it follows a dynamic size."""
    shape = torch._shape_as_tensor(images).to(images.device)
    return torch.stack([shape[3], shape[2], shape[3], shape[2]]).to(images.dtype)


def packed(found: Candidates) -> tuple[Tensor, Tensor]:
    """Return dets [N, K, 5] and labels [N, K], which are -1 in empty rows."""
    dets = torch.cat([found.boxes, found.scores.unsqueeze(2)], 2)
    return dets, torch.where(found.scores > 0, found.labels, torch.full_like(found.labels, -1))


def last_head(detector: Any) -> Any:
    """Return the head that predicts the final boxes, or None; a cascade has one head per stage."""
    head = getattr(getattr(detector, "roi_head", detector), "bbox_head", None)
    return head[-1] if isinstance(head, nn.ModuleList) else head


def class_count(detector: Any) -> int | None:
    """Return the number of classes; None where the detector does not state it."""
    head = last_head(detector) or getattr(detector, "mask_head", None)
    count = getattr(head, "num_classes", None)
    # Panoptic models name the classes of their semantic head, too, after those of the objects.
    return count and count + getattr(detector, "num_stuff_classes", 0)
