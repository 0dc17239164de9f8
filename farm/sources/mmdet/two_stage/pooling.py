"""Features of boxes, from the level of the pyramid that suits their size."""

from __future__ import annotations

from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from torch import Tensor

from farm.sources.mmdet.operators.roi_align import roi_align


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
        return roi_align(features[0], boxes, image, layers[0])
    level = _levels(extractor, boxes)
    chosen = [(level == i).nonzero().squeeze(1) for i in range(len(layers))]
    pooled = torch.cat([
        roi_align(features[i], boxes[chosen[i]], image[chosen[i]], layer)
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
