"""Features of boxes, from the levels of the pyramid, with context of the whole image."""

from __future__ import annotations

from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from mmcv.ops import DeformRoIPool
from mmdet.models.roi_heads.roi_extractors import GenericRoIExtractor
from torch import Tensor
from torch.nn.functional import avg_pool2d

from farm.sources.mmdet.patches import pooling
from farm.sources.mmdet.patches.roi_align import roi_align
from farm.sources.mmdet.two_stage.parts import require_extractor


def pool(
    extractor: Any, features: list[Tensor], boxes: Tensor, scale: float | None = None
) -> Tensor:
    """The extractor's own `forward`: features of boxes [N, R, 4], as [N * R, C, size, size].

    scale: by which boxes grow about their centre, after their level is chosen.
    """
    image = torch.arange(boxes.shape[0], device=boxes.device).unsqueeze(1)
    image = image.expand(-1, boxes.shape[1]).reshape(-1)
    return pool_rows(extractor, features, boxes.reshape(-1, 4), image, scale)


def pool_rows(
    extractor: Any, features: list[Tensor], boxes: Tensor, image: Tensor, scale: float | None = None
) -> Tensor:
    """As `pool`, for boxes [R, 4] in the images int64 [R]."""
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
    """`SingleRoIExtractor`: each box [R, 4] from the one level [R] that suits its size.

    Every level pools its own boxes only, and the results are put back in order; a level may have
    none.
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
    """`GenericRoIExtractor`: each box [R, 4] from all levels, which are added or joined."""
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
    """Boxes whose sides have crossed (a coder of sides can do that) have no extent instead.

    mmcv samples neither; a runtime may not survive a negative number of samples.
    """
    return torch.cat([boxes[:, :2], torch.maximum(boxes[:, :2], boxes[:, 2:])], 1)


def check(head: Any, extractors: list[Any]) -> None:
    """Raises ValueError where semantic features do not fit what `extractors` pool."""
    if not head.with_semantic:
        return
    require_extractor(head.semantic_roi_extractor)
    size = _size(head.semantic_roi_extractor)
    for extractor in extractors:
        if size % _size(extractor):
            raise ValueError(f"semantic features pooled to {size} do not fit {_size(extractor)}")


def semantic(head: Any, feature: Tensor, boxes: Tensor, extractor: Any) -> Tensor:
    """Of boxes [N, R, 4], sized as what `extractor` pools: [N * R, C, size, size].

    mmdet pools adaptively, which is plain averaging as the sizes divide.
    """
    pooled = pool(head.semantic_roi_extractor, [feature], boxes)
    times = _size(head.semantic_roi_extractor) // _size(extractor)
    return avg_pool2d(pooled, times) if times > 1 else pooled


def with_context(pooled: Tensor, context: Tensor) -> Tensor:
    """pooled [N * R, C, size, size] plus the context [N, C, 1, 1] of each one's image."""
    apart = pooled.reshape(context.shape[0], -1, *pooled.shape[1:])
    return (apart + context.unsqueeze(1)).reshape(pooled.shape)


def _size(extractor: Any) -> int:
    return int(extractor.roi_layers[0].output_size[0])
