"""RoIAlign: runs as mmcv's roi_align in PyTorch, and is exported as ONNX's RoiAlign."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import mmcv.ops
import torch
from torch import Tensor

from farm.sources.mmdet.compat import replaced

_NATIVE = 16
"""The first opset whose RoiAlign has an attribute for mmcv's `aligned`."""

_opset = ContextVar("opset", default=_NATIVE)


class RoiAlign(torch.autograd.Function):
    """Bilinear features of boxes, exported as ONNX's RoiAlign.

    features [N, C, H, W]; boxes [R, 4] in pixels of the network's input; images int64 [R].
    Returns [R, C, size, size].

    From opset 16 on, an attribute of ONNX's operator states whether boxes are shifted by half a
    pixel of the feature map (`aligned`). (mmcv's symbolic shifts them at every opset, so that from
    16 on, where half_pixel is the default, they are shifted twice.) Below opset 16 there is no such
    attribute, and boxes narrower than one feature pixel are treated as one pixel wide, as without
    `aligned`.
    """

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, boxes: Tensor, images: Tensor, size: int, scale: float,
        sampling: int, aligned: bool,
    ) -> Tensor:  # fmt: skip
        rois = torch.cat([images.to(boxes.dtype).unsqueeze(1), boxes], 1)
        return mmcv.ops.roi_align(features, rois, (size, size), scale, sampling, "avg", aligned)

    @staticmethod
    def symbolic(
        g: Any, features: Any, boxes: Any, images: Any, size: int, scale: float, sampling: int,
        aligned: bool,
    ) -> Any:  # fmt: skip
        attributes = {
            "output_height_i": size,
            "output_width_i": size,
            "spatial_scale_f": scale,
            "sampling_ratio_i": max(0, sampling),
            "mode_s": "avg",
        }
        if g.opset >= _NATIVE:
            mode = "half_pixel" if aligned else "output_half_pixel"
            attributes["coordinate_transformation_mode_s"] = mode
        elif aligned:
            raise ValueError(f"below opset {_NATIVE} RoiAlign has no aligned boxes")
        return g.op("RoiAlign", features, boxes, images, **attributes)


def roi_align(features: Tensor, boxes: Tensor, images: Tensor, layer: Any) -> Tensor:
    """Pool as mmcv's `RoIAlign` layer: boxes [R, 4] with image indices int64 [R].

    The layer must be square, with average pooling. Returns [R, C, size, size].
    """
    size, scale = layer.output_size[0], layer.spatial_scale
    if layer.aligned and _opset.get() < _NATIVE:
        places = boxes * scale - 0.5
        return _any_width(features, places, images, size, layer.sampling_ratio)
    return RoiAlign.apply(features, boxes, images, size, scale, layer.sampling_ratio, layer.aligned)


def _any_width(features: Tensor, places: Tensor, images: Tensor, size: int, ratio: int) -> Tensor:
    """Pools `aligned` boxes `places` [R, 4], in cells, by a RoiAlign that widens narrow ones.

    The samples of a box that is narrower than a cell, in x or y, are interpolated from three cells
    at most. In that direction the box is made `count` cells wide, so that each sample is the value
    of one cell; the required samples are linear combinations of these.
    """
    count = size * max(1, ratio)  # the ratio is the number of samples per bin, averaged afterwards
    start, extent = places[:, :2], places[:, 2:] - places[:, :2]
    narrow = extent < 1
    limits = torch.stack([torch._shape_as_tensor(features)[i] for i in (3, 2)]).to(places)
    first = torch.minimum((start + extent * (0.5 / count)).clamp(min=0), limits - 1).floor()
    widened = torch.where(narrow.repeat(1, 2), torch.cat([first, first + count], 1) - 0.5, places)
    pooled = RoiAlign.apply(features, widened, images, count, 1.0, min(ratio, 1), False)
    rows = narrow.any(1).nonzero().squeeze(1)
    weights = _weights(start[rows], extent[rows], first[rows], limits, count, ratio > 0)
    combined = weights[:, 1:] @ pooled[rows] @ weights[:, :1].transpose(2, 3)
    pooled = pooled.index_put((rows,), combined)
    return _averaged(pooled, size, ratio) if ratio > 1 else pooled


def _averaged(pooled: Tensor, size: int, ratio: int) -> Tensor:
    """`avg_pool2d(pooled, ratio)`; OpenVINO's own operator fails where there are no boxes."""
    rows, channels = pooled.shape[:2]
    return pooled.reshape(rows, channels, size, ratio, size, ratio).mean((3, 5))


def _weights(
    start: Tensor, extent: Tensor, first: Tensor, limits: Tensor, count: int, empty: bool
) -> Tensor:
    """[R, 2 (x, y), count, count]: the weight, per sample, of each of the cells from `first` on.

    Borders are handled as in mmcv: samples more than a cell outside are zero, others take the
    nearest cell's value. A box of no extent is zero unless its number of samples is fixed
    (`empty`). limits [2] is W, H in cells.
    """
    index = torch.arange(count, device=start.device, dtype=start.dtype)
    start, extent, first = (x.unsqueeze(2) for x in (start, extent, first))
    limits = limits.unsqueeze(1)
    sample = start + (index + 0.5) * (extent / count)
    inside = (sample >= -1) & (sample <= limits)
    if not empty:
        inside = inside & (extent > 0)
    sample = torch.minimum(sample.clamp(min=0), limits - 1)
    distance = (sample - first).unsqueeze(3) - index
    weights = (1 - distance.abs()).clamp(min=0) * inside.unsqueeze(3).to(start.dtype)
    identity = torch.eye(count, device=start.device, dtype=start.dtype)
    return torch.where((extent < 1).unsqueeze(3), weights, identity)


def _forward(layer: Any, features: Tensor, rois: Tensor) -> Tensor:
    if layer.pool_mode != "avg" or layer.output_size[0] != layer.output_size[1]:
        raise ValueError("only square RoIAlign with average pooling can be exported")
    return roi_align(features, rois[:, 1:], rois[:, 0].long(), layer)


@contextmanager
def patch_roi_align(opset: int) -> Iterator[None]:
    """Make mmcv's `RoIAlign`, and `roi_align` above, trace to operators right at `opset`."""
    token = _opset.set(opset)
    try:
        with replaced(mmcv.ops.RoIAlign, "forward", _forward):
            yield
    finally:
        _opset.reset(token)
