"""Backbones whose own code fixes sizes: right for batches and sizes that were not traced."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
from mmcls.models.backbones import ConvNeXt
from mmcv.cnn.bricks.conv2d_adaptive_padding import Conv2dAdaptivePadding
from mmdet.models.backbones import (
    PyramidVisionTransformer,
    PyramidVisionTransformerV2,
    SwinTransformer,
)
from mmdet.models.utils.transformer import AdaptivePadding

from farm.sources.mmdet import patches

pytestmark = pytest.mark.slow

torch.set_num_threads(1)
TRACED, OTHERS = (1, 3, 64, 96), [(2, 3, 64, 96), (1, 3, 57, 133), (2, 3, 128, 32)]


def swin() -> nn.Module:
    return SwinTransformer(
        embed_dims=8, depths=(2, 2), num_heads=(1, 2), strides=(4, 2), out_indices=(0, 1)
    )


def pvt() -> nn.Module:
    sizes = {"num_layers": [1, 1], "num_heads": [1, 2], "patch_sizes": [4, 2], "strides": [4, 2]}
    return PyramidVisionTransformer(
        64, 3, 8, 2, **sizes, paddings=[0, 0], sr_ratios=[4, 1], mlp_ratios=[2, 2],
        out_indices=(0, 1),
    )  # fmt: skip


def pvt_v2() -> nn.Module:
    sizes = {"num_layers": [1] * 4, "num_heads": [1, 2, 2, 2], "strides": [4, 2, 1, 1]}
    return PyramidVisionTransformerV2(
        embed_dims=8, **sizes, sr_ratios=[4, 1, 1, 1], mlp_ratios=[2] * 4
    )


def convnext() -> nn.Module:
    """mmcls's, as mmdet's configs name it."""
    arch = {"depths": [1] * 4, "channels": [8, 16, 32, 64]}
    return ConvNeXt(arch, out_indices=(0, 1, 2, 3), gap_before_final_norm=False)


def padding() -> nn.Module:
    return AdaptivePadding(kernel_size=5, stride=4, dilation=2, padding="same")


def same_convolution() -> nn.Module:
    """Across in whole strides, down in steps of one."""
    return Conv2dAdaptivePadding(3, 4, kernel_size=4, stride=(1, 4))


class Outputs(nn.Module):
    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        values = self.module(images)
        return (values,) if isinstance(values, Tensor) else tuple(values)


def random_module(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    module = Outputs(make()).eval()
    for weight in module.parameters():
        nn.init.normal_(weight, std=0.1)
    module.eval()
    return module


def difference(module: nn.Module, opset: int, swapped: bool) -> float:
    """The largest over sizes; infinite where the file cannot be run at one."""
    file = io.BytesIO()
    with patches.standard(opset) if swapped else nullcontext(), torch.no_grad():
        torch.onnx.export(
            module, (torch.zeros(TRACED),), file, dynamo=False, opset_version=opset,
            input_names=["images"], dynamic_axes={"images": {0: "n", 2: "h", 3: "w"}},
        )  # fmt: skip
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    worst = 0.0
    for size in (TRACED, *OTHERS):
        images = torch.randn(size, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            expected = module(images)
        try:
            found = session.run(None, {"images": images.numpy()})
        except onnxruntime.capi.onnxruntime_pybind11_state.Fail:
            return float("inf")
        for one, other in zip(expected, found, strict=True):
            if one.shape != other.shape:
                return float("inf")
            worst = max(worst, float(np.abs(one.numpy() - other).max()))
    return worst


@pytest.mark.parametrize("opset", [11, 17, 20])
@pytest.mark.parametrize("make", [swin, pvt, pvt_v2, convnext, padding, same_convolution])
def test_sizes_that_were_not_traced_are_right(make: Callable[[], nn.Module], opset: int) -> None:
    assert difference(random_module(make), opset, swapped=True) < 1e-5


@pytest.mark.parametrize("make", [swin, pvt, pvt_v2, padding, same_convolution])
def test_mmdets_own_code_fixes_them(make: Callable[[], nn.Module]) -> None:
    assert difference(random_module(make), 17, swapped=False) > 1e-2
