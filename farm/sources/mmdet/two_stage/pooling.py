"""Features of boxes from the levels of a pyramid, with context of the full image."""

from __future__ import annotations

from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from mmcv.ops import DeformRoIPool
from mmdet.models.roi_heads.roi_extractors import GenericRoIExtractor
from torch import Tensor
from torch.nn.functional import avg_pool2d

from farm.sources.mmdet.parts import require_extractor
from farm.sources.mmdet.patches import pooling
from farm.sources.mmdet.patches.roi_align import roi_align


def pool(
    extractor: Any, features: list[Tensor], boxes: Tensor, scale: float | None = None
) -> Tensor:
    """Pool features as the extractor's `forward`: boxes [N, R, 4] -> [N * R, C, size, size].

    scale: factor by which boxes grow about their centre, after their level is selected.
    """
    image = torch.arange(boxes.shape[0], device=boxes.device).unsqueeze(1)
    image = image.expand(-1, boxes.shape[1]).reshape(-1)
    return pool_rows(extractor, features, boxes.reshape(-1, 4), image, scale)


def pool_rows(
    extractor: Any, features: list[Tensor], boxes: Tensor, image: Tensor, scale: float | None = None
) -> Tensor:
    """Pool features as `pool`, for boxes [R, 4] with image indices int64 [R]."""
    boxes = _ordered(boxes)
    if len(extractor.roi_layers) == 1:
        return _pooled(features[0], boxes, image, extractor.roi_layers[0])
    grown = boxes if scale is None else _grown(boxes, scale)
    if isinstance(extractor, GenericRoIExtractor):
        merged: Tensor = _every_level(extractor, features, grown, image)
        return merged
    return _own_level(extractor, features, _levels(extractor, boxes), grown, image)


def _own_level(
    extractor: Any, features: list[Tensor], level: Tensor, boxes: Tensor, image: Tensor
) -> Tensor:
    """`SingleRoIExtractor`: each box [R, 4] is pooled from the one level [R] that fits its size.

    Every level pools its own boxes only, and the results are restored to the boxes' order. A level
    may have no box.
    """
    layers = extractor.roi_layers
    chosen = [(level == i).nonzero().squeeze(1) for i in range(len(layers))]
    pooled = torch.cat([
        _pooled(features[i], boxes[chosen[i]], image[chosen[i]], layer)
        for i, layer in enumerate(layers)
    ])  # fmt: skip
    order = torch.cat(chosen)
    places = torch.arange(order.shape[0], device=order.device)
    return pooled[torch.zeros_like(order).scatter(0, order, places)]


def _every_level(extractor: Any, features: list[Tensor], boxes: Tensor, image: Tensor) -> Any:
    """`GenericRoIExtractor`: each box [R, 4] is pooled from all levels, summed or concatenated."""
    pooled = [
        _pooled(features[i], boxes, image, layer) for i, layer in enumerate(extractor.roi_layers)
    ]
    if extractor.with_pre:
        pooled = [extractor.pre_module(level) for level in pooled]
    merged = torch.cat(pooled, 1) if extractor.aggregation == "concat" else sum(pooled)
    return extractor.post_module(merged) if extractor.with_post else merged


def _pooled(features: Tensor, boxes: Tensor, image: Tensor, layer: Any) -> Tensor:
    if isinstance(layer, DeformRoIPool):
        rois = torch.cat([image.to(boxes.dtype).unsqueeze(1), boxes], 1)
        return pooling.pooled(layer, features, rois)
    return roi_align(features, boxes, image, layer)


def _levels(extractor: Any, boxes: Tensor) -> Tensor:
    """`SingleRoIExtractor.map_roi_levels`."""
    scale = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
    level = (scale / extractor.finest_scale + 1e-6).log2().floor()
    return level.clamp(min=0, max=len(extractor.roi_layers) - 1).long()


def _grown(boxes: Tensor, scale: float) -> Tensor:
    """`BaseRoIExtractor.roi_rescale`."""
    centre, size = (boxes[:, :2] + boxes[:, 2:]) * 0.5, (boxes[:, 2:] - boxes[:, :2]) * scale
    return torch.cat([centre - size * 0.5, centre + size * 0.5], 1)


def _ordered(boxes: Tensor) -> Tensor:
    """Boxes in which x2 < x1 or y2 < y1 get an extent of 0 (a coder of sides may return such).

    mmcv takes no samples from either; a runtime may crash at a negative number of samples.
    """
    return torch.cat([boxes[:, :2], torch.maximum(boxes[:, :2], boxes[:, 2:])], 1)


def check(head: Any, extractors: list[Any]) -> None:
    """Check that pooled semantic features have the size that `extractors` return.

    Raises:
        ValueError: their size is no multiple of an extractor's.
    """
    if not head.with_semantic:
        return
    require_extractor(head.semantic_roi_extractor)
    size = _size(head.semantic_roi_extractor)
    for extractor in extractors:
        if size % _size(extractor):
            raise ValueError(f"semantic features pooled to {size} do not fit {_size(extractor)}")


def semantic(head: Any, feature: Tensor, boxes: Tensor, extractor: Any) -> Tensor:
    """Pool semantic features of boxes [N, R, 4] at the extractor's size: [N * R, C, size, size].

    mmdet uses adaptive pooling, which equals average pooling here, since the sizes are divisible.
    """
    pooled = pool(head.semantic_roi_extractor, [feature], boxes)
    times = _size(head.semantic_roi_extractor) // _size(extractor)
    return avg_pool2d(pooled, times) if times > 1 else pooled


def with_context(pooled: Tensor, context: Tensor) -> Tensor:
    """Add to pooled [N * R, C, size, size] the context [N, C, 1, 1] of each box's image."""
    apart = pooled.reshape(context.shape[0], -1, *pooled.shape[1:])
    return (apart + context.unsqueeze(1)).reshape(pooled.shape)


def _size(extractor: Any) -> int:
    return int(extractor.roi_layers[0].output_size[0])
