"""YOLACT: a box's mask is the sum of prototypes, weighted by coefficients of the box."""

from __future__ import annotations

from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from mmdet.core.bbox.coder import DeltaXYWHBBoxCoder
from mmdet.models import dense_heads
from mmdet.models.dense_heads.yolact_head import YOLACTProtonet
from mmdet.models.detectors import YOLACT
from torch import Tensor, nn

from farm.sources.mmdet.candidates import Candidates, best_rows, decode, rows, take, top
from farm.sources.mmdet.dense.coders import level_priors
from farm.sources.mmdet.parts import limits, packed, require, require_test_path


class Yolact(nn.Module):
    """images float32 [N, 3, H, W] -> dets, labels, masks [N, K, h, w]; see `graphs.graph`."""

    mask_frame = "image"
    mask_threshold = 0.5  # fixed in mmdet's code
    how = None  # fast NMS needs no NMS operator

    def __init__(self, model: Any) -> None:
        super().__init__()
        require_test_path(model, YOLACT)
        head = model.bbox_head
        require(head, dense_heads.YOLACTHead, ("simple_test", "get_bboxes", "_get_bboxes_single"))
        rules = ("simple_test", "forward", "crop", "sanitize_coordinates", "get_seg_masks")
        require(model.mask_head, YOLACTProtonet, rules)
        if type(head.bbox_coder) is not DeltaXYWHBBoxCoder:
            raise ValueError(f"box coder {type(head.bbox_coder).__name__} cannot be exported yet")
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        features, size = self.model.extract_feat(images), limits(images)
        boxes, scores, coefficients = _boxes(self.model.bbox_head, features, size)
        found, row = _fast_nms(boxes, scores, self.model.bbox_head.test_cfg)
        prototypes = self.model.mask_head.protonet(features[0])
        logits = take(coefficients, row) @ prototypes.flatten(2)
        masks = logits.sigmoid().reshape(*row.shape, *prototypes.shape[2:])
        return *packed(found), masks * _inside(found.boxes / size, masks)


def _boxes(head: Any, features: list[Tensor], size: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`YOLACTHead._get_bboxes_single`: boxes [N, R, 4], scores [N, R, C], coefficients [N, R, D].

    Each level contributes its `nms_pre` rows with the best scores.
    """
    outs = head(features)
    levels: Any = zip(*outs, level_priors(head, outs[0]), strict=True)
    parts = [_level(head, size, *level) for level in levels]
    boxes, scores, coefficients = (torch.cat(part, 1) for part in zip(*parts, strict=True))
    return boxes, scores, coefficients


def _level(
    head: Any, size: Tensor, logits: Tensor, deltas: Tensor, coefficients: Tensor, priors: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    logits = rows(logits, head.cls_out_channels)
    deltas, coefficients = rows(deltas, 4), rows(coefficients, head.num_protos)
    scores = logits.sigmoid() if head.use_sigmoid_cls else logits.softmax(-1)
    limit = head.test_cfg.get("nms_pre", -1)
    if limit > 0:
        chosen = best_rows(scores[..., : head.num_classes], limit)
        scores, deltas, coefficients = (take(x, chosen) for x in (scores, deltas, coefficients))
        priors = priors[chosen]
    boxes = decode(head.bbox_coder, priors, deltas, size)
    return boxes, scores[..., : head.num_classes], coefficients


def _fast_nms(boxes: Tensor, scores: Tensor, cfg: Any) -> tuple[Candidates, Tensor]:
    """`fast_nms`: the detections, and the row [N, K] of `boxes` that each comes from.

    A box that overlaps a better one of its class is dropped, even if that one is dropped as well.
    """
    images, classes = scores.shape[0], scores.shape[2]
    best, row = top(scores.transpose(1, 2).flatten(0, 1), cfg.top_k)  # [N * C, k]
    count = best.shape[1]
    row = row.reshape(images, -1)  # [N, C * k]
    chosen = take(boxes, row).reshape(-1, count, 4)
    place = torch.arange(count, device=boxes.device)
    better = (place.unsqueeze(1) < place.unsqueeze(0)).to(boxes.dtype)
    overlap = (_iou(chosen) * better).amax(1)
    kept = (overlap <= cfg.iou_thr) & (best > cfg.score_thr)
    best = torch.where(kept, best, torch.zeros_like(best)).reshape(images, -1)
    best, index = top(best, cfg.max_per_img if cfg.max_per_img > 0 else classes * cfg.top_k)
    label, row = torch.div(index, count, rounding_mode="trunc"), row.gather(1, index)
    return Candidates(take(boxes, row), best, label), row


def _iou(boxes: Tensor) -> Tensor:
    """Pairwise IoU: [G, k, 4] -> [G, k, k]."""
    corner = torch.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])
    other = torch.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:])
    inner = (other - corner).clamp(min=0).prod(-1)
    area = (boxes[..., 2:] - boxes[..., :2]).prod(-1)
    union = area.unsqueeze(2) + area.unsqueeze(1) - inner
    return inner / union.clamp(min=1e-6)


def _inside(boxes: Tensor, masks: Tensor) -> Tensor:
    """[N, K, h, w]: 1 inside each box and one cell around it, else 0; `YOLACTProtonet.crop`.

    boxes [N, K, 4], as fractions of the image.
    """
    height, width = masks.shape[2], masks.shape[3]
    x1, y1, x2, y2 = boxes.unsqueeze(-1).unbind(2)
    return _between(x1, x2, width).unsqueeze(2) * _between(y1, y2, height).unsqueeze(3)


def _between(first: Tensor, second: Tensor, cells: Any) -> Tensor:
    """[N, K, 1] each -> [N, K, cells] of zeros and ones."""
    first, second = first * cells, second * cells
    place = torch.arange(cells, device=first.device, dtype=first.dtype)
    low = (torch.minimum(first, second) - 1).clamp(min=0)
    # One cell more on either side; the upper end needs no clipping, as no cell is beyond it.
    return ((place >= low) & (place < second + 1)).to(first.dtype)
