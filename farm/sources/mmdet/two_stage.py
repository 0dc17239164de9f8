"""Two-stage detectors: proposals, boxes from RoIs, masks; by the rules of mmdet's test path."""

from __future__ import annotations

from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from mmcv.ops import RoIAlign
from mmdet.core.bbox.coder import DeltaXYWHBBoxCoder
from mmdet.models import dense_heads, roi_heads
from mmdet.models.roi_heads import bbox_heads, mask_heads, roi_extractors
from torch import Tensor, nn

from farm.sources.mmdet.candidates import (
    Candidates,
    Suppression,
    best_pairs,
    decode,
    join,
    rows,
    suppress,
    suppression,
    take,
    top,
)
from farm.sources.mmdet.dense import POOL
from farm.sources.mmdet.operators import RoiAlign


def proposals(head: Any, outs: tuple[Any, ...], limits: Tensor, how: Suppression) -> Candidates:
    """`RPNHead.get_bboxes`: the best `nms_pre` per level, suppressed within their level.

    Rows beyond the found ones have score 0, and must not become detections.
    """
    sizes = [level.shape[-2:] for level in outs[0]]
    priors = head.prior_generator.grid_priors(sizes, device=outs[0][0].device)
    levels = zip(outs[0], outs[1], priors, strict=True)
    found = join([_proposal_level(head, i, *level, limits) for i, level in enumerate(levels)])
    if (least := head.test_cfg.min_bbox_size) >= 0:
        size = found.boxes[..., 2:] - found.boxes[..., :2]
        large = (size > least).all(2)
        scores = torch.where(large, found.scores, torch.zeros_like(found.scores))
        found = Candidates(found.boxes, scores, found.labels)
    return suppress(found, how)


def _proposal_level(
    head: Any, level: int, logits: Tensor, deltas: Tensor, priors: Tensor, limits: Tensor
) -> Candidates:
    logits, deltas = rows(logits, head.cls_out_channels), rows(deltas, 4)
    scores = logits.sigmoid() if head.use_sigmoid_cls else logits.softmax(-1)
    limit = head.test_cfg.get("nms_pre", -1)
    scores, index = top(scores[..., 0], limit if limit > 0 else 1 << 40)
    boxes = decode(head.bbox_coder, priors[index], take(deltas, index), limits)
    return Candidates(boxes, scores, torch.full_like(index, level))


def detections(
    head: Any, features: list[Tensor], found: Candidates, limits: Tensor, how: Suppression
) -> Candidates:
    """`BBoxHead.get_bboxes` and `multiclass_nms` on the proposals of each image."""
    images, count = found.scores.shape[:2]
    pooled = pool(head.bbox_roi_extractor, features, found.boxes)
    if head.with_shared_head:
        pooled = head.shared_head(pooled)
    logits, deltas = head.bbox_head(pooled)
    scores = logits.softmax(-1)[:, :-1].reshape(images, count, -1)
    passed = (scores > head.test_cfg.score_thr) & (found.scores > 0).unsqueeze(2)
    scores = torch.where(passed, scores, torch.zeros_like(scores))
    scores, row, label = best_pairs(scores, POOL)
    deltas = deltas.reshape(images, -1, 4)
    own = row if head.bbox_head.reg_class_agnostic else row * head.bbox_head.num_classes + label
    boxes = decode(head.bbox_head.bbox_coder, take(found.boxes, row), take(deltas, own), limits)
    return suppress(Candidates(boxes, scores, label), how)


def masks(head: Any, features: list[Tensor], found: Candidates) -> Tensor:
    """`FCNMaskHead` on the final boxes: probabilities [N, K, m, m] for each row's own label."""
    images, count = found.scores.shape[:2]
    pooled = pool(head.mask_roi_extractor, features, found.boxes)
    if head.with_shared_head:
        pooled = head.shared_head(pooled)
    logits = head.mask_head(pooled)
    size = logits.shape[2:]
    if not head.mask_head.class_agnostic:
        label = found.labels.reshape(-1, 1, 1, 1).expand(-1, 1, size[0], size[1])
        logits = logits.gather(1, label)
    return logits.sigmoid().reshape(images, count, size[0], size[1])


def pool(extractor: Any, features: list[Tensor], boxes: Tensor) -> Tensor:
    """`SingleRoIExtractor`: each box [N, R, 4] from the one level that suits its size.

    Every level pools its own boxes only, and the results are put back in order; a level may have
    none. Returns [N * R, C, size, size].
    """
    image = torch.arange(boxes.shape[0], device=boxes.device).unsqueeze(1)
    image = image.expand(-1, boxes.shape[1]).reshape(-1)
    boxes = boxes.reshape(-1, 4)
    layers = extractor.roi_layers
    if len(layers) == 1:
        return _align(layers[0], features[0], boxes, image)
    level = _levels(extractor, boxes)
    chosen = [(level == i).nonzero().squeeze(1) for i in range(len(layers))]
    pooled = torch.cat([
        _align(layer, features[i], boxes[chosen[i]], image[chosen[i]])
        for i, layer in enumerate(layers)
    ])  # fmt: skip
    order = torch.cat(chosen)
    places = torch.arange(order.shape[0], device=order.device)
    return pooled[torch.zeros_like(order).scatter(0, order, places)]


def _levels(extractor: Any, boxes: Tensor) -> Tensor:
    """`SingleRoIExtractor.map_roi_levels`."""
    scale = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
    level = (scale / extractor.finest_scale + 1e-6).log2().floor()
    return level.clamp(min=0, max=len(extractor.roi_layers) - 1).long()


def _align(layer: RoIAlign, feature: Tensor, boxes: Tensor, image: Tensor) -> Tensor:
    size, scale = layer.output_size[0], layer.spatial_scale
    return RoiAlign.apply(feature, boxes, image, size, scale, layer.sampling_ratio, layer.aligned)


def check(model: Any) -> tuple[Suppression, Suppression]:
    """How the proposals and how the detections of this model are suppressed.

    Raises:
        ValueError: a part of the model follows rules that are not known here.
    """
    rpn, head = model.rpn_head, model.roi_head
    parts: list[tuple[Any, type, tuple[str, ...]]] = [
        (rpn, dense_heads.RPNHead, ("get_bboxes", "_get_bboxes_single", "_bbox_post_process")),
        (head, roi_heads.StandardRoIHead, ("simple_test", "simple_test_bboxes", "_bbox_forward")),
        (head.bbox_head, bbox_heads.ConvFCBBoxHead, ("get_bboxes", "forward")),
        (head.bbox_roi_extractor, roi_extractors.SingleRoIExtractor, ("forward",)),
    ]
    if head.with_mask:
        parts += [
            (head.mask_head, mask_heads.FCNMaskHead, ("get_seg_masks", "forward")),
            (head.mask_roi_extractor, roi_extractors.SingleRoIExtractor, ("forward",)),
        ]
    for part, kind, rules in parts:
        _require(part, kind, rules)
    for part, kind, _ in parts:
        if kind is roi_extractors.SingleRoIExtractor:
            _require_plain_pooling(part)
    if head.bbox_head.custom_activation or not (
        head.bbox_head.with_reg and head.bbox_head.with_cls
    ):
        raise ValueError("a box head with its own activation or without regression is not known")
    for part in (rpn, head.bbox_head):
        if type(part.bbox_coder) is not DeltaXYWHBBoxCoder:
            raise ValueError(f"box coder {type(part.bbox_coder).__name__} cannot be exported yet")
    of_rpn, of_head = rpn.test_cfg, head.test_cfg
    return (
        suppression(of_rpn, of_rpn.max_per_img),
        suppression(of_head, of_head.max_per_img),
    )


def _require(part: nn.Module, kind: type, rules: tuple[str, ...]) -> None:
    name = type(part).__name__
    if not isinstance(part, kind):
        raise ValueError(f"{name} cannot be exported yet; only {kind.__name__} can")
    if own := [r for r in rules if getattr(type(part), r) is not getattr(kind, r)]:
        raise ValueError(f"{name} has its own {own[0]}, which cannot be exported yet")


def _require_plain_pooling(extractor: Any) -> None:
    for layer in extractor.roi_layers:
        if not isinstance(layer, RoIAlign) or layer.pool_mode != "avg" or layer.use_torchvision:
            raise ValueError("only RoIAlign with average pooling can be exported")
        if layer.output_size[0] != layer.output_size[1]:
            raise ValueError(f"RoIAlign to {layer.output_size} is not square")
