"""What heads predict for regions: the final boxes, those of the next stage, and masks.

Masks are pasted after the engine; PointRend refines uncertain ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from mmcv.ops import SimpleRoIAlign, point_sample
from mmdet.models import roi_heads
from mmdet.models.roi_heads import mask_heads, roi_extractors
from mmdet.models.roi_heads.bbox_heads import SABLHead
from torch import Tensor
from torch.nn import functional

from farm.sources.mmdet.candidates import POOL, Candidates, best_pairs, suppress, suppression, take
from farm.sources.mmdet.dense import coders
from farm.sources.mmdet.dense.coders import decode
from farm.sources.mmdet.parts import require, require_box_head, require_extractor
from farm.sources.mmdet.two_stage.pooling import pool

if TYPE_CHECKING:
    from farm.specs import Suppression


def detections(
    head: Any, features: list[Tensor], found: Candidates, limits: Tensor, how: Suppression
) -> Candidates:
    """Return the final boxes of a RoI head with one box head, from each image's proposals."""
    pooled = pool(head.bbox_roi_extractor, features, found.boxes)
    if head.with_shared_head:
        pooled = head.shared_head(pooled)
    logits, regression = head.bbox_head(pooled)
    return final(head.bbox_head, head.test_cfg, found, logits, regression, limits, how)


def final(
    box_head: Any, test_cfg: Any, found: Candidates, logits: Tensor, regression: Any,
    limits: Tensor, how: Suppression,
) -> Candidates:  # fmt: skip
    """Decode and suppress as `BBoxHead.get_bboxes` and `multiclass_nms`.

    found: regions [N, R]. logits [N * R, classes + 1]. regression: the box head's second output, or
    None.
    """
    images, count = found.scores.shape[:2]
    scores = class_probabilities(box_head, logits)[:, :-1].reshape(images, count, -1)
    passed = (scores > test_cfg.score_thr) & (found.scores > 0).unsqueeze(2)
    scores = torch.where(passed, scores, torch.zeros_like(scores))
    boxes = found.boxes
    if isinstance(box_head, SABLHead):
        boxes, confidence = coders.decode_buckets(box_head.bbox_coder, boxes, regression, limits)
        scores = scores * confidence.unsqueeze(2)
    scores, row, label = best_pairs(scores, POOL)
    boxes = take(boxes, row)
    if regression is not None and not isinstance(box_head, SABLHead):
        deltas = regression.reshape(images, -1, 4)
        own = row if box_head.reg_class_agnostic else row * box_head.num_classes + label
        boxes = decode(box_head.bbox_coder, boxes, take(deltas, own), limits)
    return suppress(Candidates(boxes, scores, label), how)


def refined(
    box_head: Any, boxes: Tensor, logits: Tensor, regression: Any, limits: Tensor
) -> Tensor:
    """Refine regions [N, R, 4] for the next stage by the most likely class: `regress_by_class`."""
    if isinstance(box_head, SABLHead):
        return coders.decode_buckets(box_head.bbox_coder, boxes, regression, limits)[0]
    if not box_head.reg_class_agnostic:
        label = class_probabilities(box_head, logits)[:, :-1].argmax(1).reshape(-1, 1, 1)
        regression = regression.reshape(-1, box_head.num_classes, 4)
        regression = regression.gather(1, label.expand(-1, 1, 4))
    return decode(box_head.bbox_coder, boxes, regression.reshape(boxes.shape), limits)


def class_probabilities(box_head: Any, logits: Tensor) -> Tensor:
    """Return probabilities [R, classes + 1], the background last."""
    if box_head.custom_activation:
        activated: Tensor = box_head.loss_cls.get_activation(logits)
        return activated
    return logits.softmax(-1)


def masks(head: Any, features: list[Tensor], found: Candidates) -> Tensor:
    """Run `FCNMaskHead` on the final boxes: probabilities [N, K, m, m] for each row's label."""
    logits = head.mask_head(mask_features(head, features, found))
    return probabilities(own_map(head.mask_head, logits, found), found)


def mask_features(head: Any, features: list[Tensor], found: Candidates) -> Tensor:
    """Compute the mask head's input as `_mask_forward`: [N * K, C, size, size]."""
    pooled = pool(head.mask_roi_extractor, features, found.boxes)
    return head.shared_head(pooled) if head.with_shared_head else pooled


def own_map(mask_head: Any, logits: Tensor, found: Candidates) -> Tensor:
    """Select the map of each row's label from [N * K, classes, m, m]: [N * K, 1, m, m]."""
    if mask_head.class_agnostic:
        return logits
    label = found.labels.reshape(-1, 1, 1, 1)
    return logits.gather(1, label.expand(-1, 1, logits.shape[2], logits.shape[3]))


def probabilities(logits: Tensor, found: Candidates) -> Tensor:
    """Return probabilities [N, K, m, m] of logits [N * K, 1, m, m]."""
    images, count = found.scores.shape[:2]
    return logits.sigmoid().reshape(images, count, logits.shape[2], logits.shape[3])


def check_point_rend(head: Any) -> None:
    """Check that all parts of the head can be exported.

    Raises:
        ValueError: one cannot; the message names it.
    """
    rules = (
        "simple_test", "simple_test_bboxes", "simple_test_mask", "_bbox_forward", "_mask_forward",
        "_mask_point_forward_test", "_get_fine_grained_point_feats",
    )  # fmt: skip
    require(head, roi_heads.PointRendRoIHead, rules)
    require_box_head(head.bbox_head)
    require_extractor(head.bbox_roi_extractor)
    require(head.mask_head, mask_heads.CoarseMaskHead, ("forward", "get_seg_masks"))
    require(head.point_head, mask_heads.MaskPointHead, ("forward", "get_roi_rel_points_test"))
    require(head.mask_roi_extractor, roi_extractors.GenericRoIExtractor, ("forward",))
    layers = head.mask_roi_extractor.roi_layers
    if len(layers) != 1 or type(layers[0]) is not SimpleRoIAlign:
        raise ValueError("PointRend's masks need features of one level, by SimpleRoIAlign")
    if head.mask_head.class_agnostic or head.point_head.class_agnostic or head.with_shared_head:
        raise ValueError("PointRend with class-agnostic masks or a shared head is not known")
    if int(head.test_cfg.scale_factor) != head.test_cfg.scale_factor:
        raise ValueError("PointRend with a scale_factor that is not a whole number is not known")
    suppression(head.test_cfg, head.test_cfg.max_per_img)


def run_point_rend(
    head: Any, features: list[Tensor], found: Candidates, limits: Tensor
) -> tuple[Candidates, Tensor]:
    """Return the final boxes and their masks [N, K, m, m]."""
    how = suppression(head.test_cfg, head.test_cfg.max_per_img)
    found = detections(head, features, found, limits, how)
    coarse = head.mask_head(_pooled(head.mask_roi_extractor.roi_layers[0], features[0], found))
    fine = own_map(head.mask_head, coarse, found)
    size, config = head.mask_head.output_size, head.test_cfg
    for step in range(config.subdivision_steps):
        size = tuple(side * int(config.scale_factor) for side in size)
        fine = functional.interpolate(fine, scale_factor=config.scale_factor, mode="bilinear")
        area, last = size[0] * size[1], step == config.subdivision_steps - 1
        if last or config.subdivision_num_points < config.scale_factor**2 * area:
            fine = _refined(head, features[0], found, coarse, fine, size)
    return found, probabilities(fine, found)


def _refined(
    head: Any, feature: Tensor, found: Candidates, coarse: Tensor, fine: Tensor, size: Any
) -> Tensor:
    """One subdivision step: predicts the most uncertain pixels of [N * K, 1, *size] as points.

    Only the map of each box's own class is kept, since classes do not interact.
    """
    height, width = size
    count = min(height * width, head.test_cfg.subdivision_num_points)
    index = (-fine.flatten(1).abs()).topk(count, dim=1)[1]
    row = torch.div(index, width, rounding_mode="trunc")
    x = (index - row * width).to(fine.dtype) * (1 / width) + 0.5 / width
    y = row.to(fine.dtype) * (1 / height) + 0.5 / height
    points = torch.stack([x, y], 2)
    per_box = points.reshape(*found.scores.shape, count, 2)
    seen = _sample(feature, found.boxes, per_box, _scale(head), False)
    logits = head.point_head(seen, point_sample(coarse, points))
    own = own_map(head.point_head, logits.unsqueeze(3), found).squeeze(3)
    return fine.flatten(2).scatter(2, index.unsqueeze(1), own).reshape(-1, 1, height, width)


def _scale(head: Any) -> float:
    return 1 / float(head.mask_roi_extractor.featmap_strides[0])


def _pooled(layer: Any, feature: Tensor, found: Candidates) -> Tensor:
    """`SimpleRoIAlign`: [N * K, C, h, w], one sample at the centre of each cell."""
    height, width = layer.output_size
    y, x = (torch.arange(side, device=feature.device) for side in (height, width))
    y, x = (y.to(feature.dtype) + 0.5) / height, (x.to(feature.dtype) + 0.5) / width
    points = torch.stack([x.repeat(height), y.repeat_interleave(width)], 1)
    seen = _sample(feature, found.boxes, points, layer.spatial_scale, not layer.aligned)
    return seen.reshape(-1, feature.shape[1], height, width)


def _sample(
    feature: Tensor, boxes: Tensor, points: Tensor, scale: float, align_corners: bool
) -> Tensor:
    """[N, C, H, W] at points [.., P, 2] (x y, 0 to 1) of boxes [N, K, 4]: [N * K, C, P]."""
    corner, size = boxes[..., None, :2], (boxes[..., 2:] - boxes[..., :2]).unsqueeze(2)
    shape = torch._shape_as_tensor(feature).to(feature.device)
    extent = torch.stack([shape[3], shape[2]]).to(feature.dtype)
    places = (points * size + corner) / extent * scale
    seen = functional.grid_sample(feature, places * 2 - 1, align_corners=align_corners)
    return seen.transpose(1, 2).reshape(-1, feature.shape[1], places.shape[2])
