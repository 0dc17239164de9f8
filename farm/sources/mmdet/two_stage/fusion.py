"""Features of the whole image added to those of each box: semantic and global context."""

from __future__ import annotations

from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
from torch import Tensor
from torch.nn.functional import avg_pool2d

from farm.sources.mmdet.two_stage.parts import require_extractor
from farm.sources.mmdet.two_stage.pooling import pool


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
