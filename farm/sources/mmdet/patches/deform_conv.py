"""Deformable convolution, v1 and v2: ONNX's DeformConv from opset 19 on, gathers below.

ONNX Runtime runs both; the operator takes half to three quarters of the gathers' time. OpenVINO has
the operator and runs it as fast, but its ONNX importer does not support it: `runtimes/openvino/`
adds the translation. Without that, OpenVINO reads the files below opset 19 only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from mmcv.ops import DeformConv2d
from mmcv.ops import deform_conv2d as mmcv_v1
from mmcv.ops import modulated_deform_conv2d as mmcv_v2
from torch import Tensor
from torch.nn.modules.utils import _pair

from farm.sources.mmdet.compat import replaced, replaced_everywhere
from farm.sources.mmdet.patches.sampling import bilinear

Pair = int | tuple[int, int]


@dataclass(frozen=True)
class Shape:
    """The arguments of mmcv's functions besides their tensors; pairs are of y and x."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    deform_groups: int


Convolve = Callable[[Tensor, Tensor, Tensor | None, Tensor, Tensor | None, Shape], Tensor]
"""image [N, C, H, W], offset [N, deform_groups * K * (y, x), h, w], mask [N, deform_groups * K,
h, w] or None, weight [out, C / groups, kh, kw], bias [out] or None; K = kh * kw kernel positions.
Returns [N, out, h, w]."""


def gathered(
    image: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor, bias: Tensor | None,
    shape: Shape,
) -> Tensor:  # fmt: skip
    """Compute `Convolve` by gathers: samples at the kernel positions, times the weights."""
    batch, groups, places = offset.shape[0], shape.deform_groups, weight[0, 0].numel()
    height, width = offset.shape[2], offset.shape[3]
    shift = offset.reshape(batch, groups, places, 2, height, width).permute(3, 0, 4, 5, 2, 1)
    y, x = _centres(offset, weight, shape)
    y, x = (shift[0] + y).reshape(batch, -1, groups), (shift[1] + x).reshape(batch, -1, groups)
    if mask is not None:
        mask = mask.reshape(batch, groups, places, height, width).permute(0, 3, 4, 2, 1)
        mask = mask.reshape(batch, -1, groups)
    out = _product(bilinear(image, y, x, mask), weight, shape.groups)
    out = out if bias is None else out + bias
    return out.reshape(batch, height, width, -1).permute(0, 3, 1, 2)


def _centres(offset: Tensor, weight: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
    """y [h, 1, K, 1] and x [1, w, K, 1] of every kernel position without offset, in pixels."""
    kernel = weight.shape[2:]
    place = torch.meshgrid(*(torch.arange(k) for k in kernel), indexing="ij")
    y, x = (
        torch.arange(offset.shape[2 + i], device=offset.device).unsqueeze(1) * shape.stride[i]
        + (place[i].flatten() * shape.dilation[i] - shape.padding[i])
        for i in (0, 1)
    )
    dtype = offset.dtype
    return y.to(dtype).unsqueeze(1).unsqueeze(3), x.to(dtype).unsqueeze(0).unsqueeze(3)


def _product(columns: Tensor, weight: Tensor, groups: int) -> Tensor:
    """Product of columns [N, L * K, C] and weight [out, C / groups, kh, kw]: [N * L, out]."""
    out, own = weight.shape[0], weight.shape[1]
    places = weight[0, 0].numel()
    if groups == 1:
        return columns.reshape(-1, places * own) @ weight.permute(2, 3, 1, 0).reshape(-1, out)
    columns = columns.reshape(-1, places, groups, own).permute(2, 0, 1, 3)
    weight = weight.reshape(groups, -1, own, places).permute(0, 3, 2, 1)
    product = columns.flatten(2) @ weight.flatten(1, 2)
    return product.permute(1, 0, 2).flatten(1)


class DeformConv(torch.autograd.Function):
    """ONNX's DeformConv on image, weight, offset, bias and optionally mask; mmcv's in PyTorch."""

    @staticmethod
    def forward(ctx: Any, shape: Shape, image: Tensor, weight: Tensor, offset: Tensor,
                bias: Tensor, *masks: Tensor) -> Tensor:  # fmt: skip
        mask = masks[0] if masks else torch.ones_like(offset[:, ::2])
        options = shape.stride, shape.padding, shape.dilation, shape.groups, shape.deform_groups
        return mmcv_v2(image, offset, mask, weight, bias, *options)

    @staticmethod
    def symbolic(g: Any, shape: Shape, *tensors: Any) -> Any:
        return g.op(
            "DeformConv", *tensors,
            kernel_shape_i=tensors[1].type().sizes()[2:], strides_i=shape.stride,
            pads_i=shape.padding * 2, dilations_i=shape.dilation,
            group_i=shape.groups, offset_group_i=shape.deform_groups,
        )  # fmt: skip


def one_operator(
    image: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor, bias: Tensor | None,
    shape: Shape,
) -> Tensor:  # fmt: skip
    """Compute `Convolve` by ONNX's operator, from opset 19 on."""
    bias = weight.new_zeros(weight.shape[0]) if bias is None else bias
    masks = () if mask is None else (mask,)
    return DeformConv.apply(shape, image, weight, offset, bias, *masks)


@contextmanager
def patch_deform_conv(opset: int) -> Iterator[None]:
    """Make mmcv's functions and layers trace to the `Convolve` for `opset`."""
    convolve = one_operator if opset >= 19 else gathered

    def v1(
        input: Tensor, offset: Tensor, weight: Tensor, stride: Pair = 1, padding: Pair = 0,
        dilation: Pair = 1, groups: int = 1, deform_groups: int = 1, bias: bool = False,
        im2col_step: int = 32,
    ) -> Tensor:  # fmt: skip
        shape = Shape(_pair(stride), _pair(padding), _pair(dilation), groups, deform_groups)
        return convolve(input, offset, None, weight, None, shape)

    def v2(
        input: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor | None = None,
        stride: Pair = 1, padding: Pair = 0, dilation: Pair = 1, groups: int = 1,
        deform_groups: int = 1,
    ) -> Tensor:  # fmt: skip
        shape = Shape(_pair(stride), _pair(padding), _pair(dilation), groups, deform_groups)
        return convolve(input, offset, mask, weight, bias, shape)

    def layer(self: Any, x: Tensor, offset: Tensor) -> Tensor:
        """Omits mmcv's padding of maps smaller than a kernel, which a trace would make constant."""
        return v1(
            x, offset, self.weight, self.stride, self.padding, self.dilation, self.groups,
            self.deform_groups,
        )  # fmt: skip

    with ExitStack() as stack:
        stack.enter_context(replaced_everywhere(mmcv_v1, "deform_conv2d", v1))
        stack.enter_context(replaced_everywhere(mmcv_v2, "modulated_deform_conv2d", v2))
        stack.enter_context(replaced(DeformConv2d, "forward", layer))
        yield
