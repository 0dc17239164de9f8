"""Operators of mmcv and torch as standard ONNX: the same numbers, at sizes that were not traced."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import mmcv.ops

from farm.runtimes import openvino_operators
from farm.sources.mmdet import operators

pytestmark = pytest.mark.slow

OPSETS = (11, 16, 19)
Inputs = tuple[Tensor, ...]
Run = Callable[[dict[str, npt.NDArray[Any]]], Any]
torch.set_num_threads(1)  # with more, OpenMP's spinning makes a busy machine 80 times slower


class Call(nn.Module):
    """Any functions of the same inputs as one module to export."""

    def __init__(self, **functions: Callable[..., Tensor]) -> None:
        super().__init__()
        self.functions = functions
        for function in functions.values():
            if isinstance(function, nn.Module):
                function.requires_grad_(False)

    def forward(self, *inputs: Tensor) -> list[Tensor]:
        return [function(*inputs) for function in self.functions.values()]


def export(module: Call, opset: int, traced: Inputs, *others: Inputs) -> bytes:
    """ONNX of `module`; the axes in which the inputs differ are dynamic."""
    names = [f"input{i}" for i in range(len(traced))]
    axes = {}
    for i, name in enumerate(names):
        sizes = zip(*(inputs[i].shape for inputs in (traced, *others)), strict=True)
        axes[name] = {axis: f"{name}_{axis}" for axis, size in enumerate(sizes) if len({*size}) > 1}
    file = io.BytesIO()
    with torch.no_grad():
        torch.onnx.export(
            module, traced, file, dynamo=False, autograd_inlining=False, opset_version=opset,
            input_names=names, output_names=list(module.functions), dynamic_axes=axes,
        )  # fmt: skip
    return file.getvalue()


def engines(model: bytes) -> Iterator[tuple[str, Run]]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    yield "ONNX Runtime", lambda feed: session.run(None, feed)
    exact = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    core = openvino_operators.core()
    compiled = core.compile_model(core.read_model(model), "CPU", exact)
    yield "OpenVINO", lambda feed: compiled(feed).values()


def check(module: Call, opset: int, traced: Inputs, *others: Inputs) -> None:
    """Both runtimes give PyTorch's numbers, at the traced sizes and at the others."""
    with operators.standard(opset):
        model = export(module, opset, traced, *others)
    for engine, run in engines(model):
        for inputs in (traced, *others):
            with torch.no_grad():
                wanted = module(*inputs)
            found = run({f"input{i}": x.numpy() for i, x in enumerate(inputs)})
            for name, one, other in zip(module.functions, wanted, found, strict=True):
                message = f"{name} at {[*inputs[0].shape]} on {engine}"
                assert one.shape == other.shape, message
                np.testing.assert_allclose(other, one.numpy(), rtol=0, atol=1e-5, err_msg=message)


def noise(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


# Corner pooling ------------------------------------------------------------------------------


@pytest.mark.parametrize("opset", OPSETS)
def test_corner_pooling_is_the_running_maximum_at_any_size(opset: int) -> None:
    pools = {mode: mmcv.ops.CornerPool(mode) for mode in ("top", "bottom", "left", "right")}
    sizes = noise(1, 3, 9, 12), noise(2, 3, 1, 5), noise(1, 3, 70, 33), noise(1, 3, 2, 130)
    check(Call(**pools), opset, *((x,) for x in sizes))


@pytest.mark.parametrize("opset", [11, 20])
def test_torch_itself_cannot_write_a_running_maximum(opset: int) -> None:
    with pytest.raises(torch.onnx.errors.UnsupportedOperatorError, match="cummax"):
        export(Call(top=mmcv.ops.CornerPool("top")), opset, (noise(1, 3, 9, 12),))


# Sampling between pixels ----------------------------------------------------------------------


def sampler(mode: str, padding: str, align_corners: bool) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda image, grid: F.grid_sample(image, grid, mode, padding, align_corners)


@pytest.mark.parametrize("opset", OPSETS)
def test_grid_sample_is_torchs(opset: int) -> None:
    kinds = itertools.product(("bilinear", "nearest"), ("zeros", "border"), (False, True))
    samplers = {"_".join(map(str, kind)): sampler(*kind) for kind in kinds}
    sizes = (1, 8, 10, 5, 6), (2, 9, 13, 7, 6), (1, 30, 17, 4, 40), (3, 1, 1, 3, 3)
    inputs = [(noise(n, 5, h, w), 1.2 * noise(n, y, x, 2, seed=1)) for n, h, w, y, x in sizes]
    check(Call(**samplers), opset, *inputs)


def test_torch_itself_cannot_write_grid_sample_below_16() -> None:
    sample = Call(sample=sampler("bilinear", "zeros", False))
    with pytest.raises(torch.onnx.errors.UnsupportedOperatorError, match="grid_sampler"):
        export(sample, 15, (noise(1, 5, 8, 10), noise(1, 5, 6, 2)))


# Deformable convolution -----------------------------------------------------------------------


def deform_inputs(places: int, *sizes: tuple[int, ...], spread: float = 2) -> list[Inputs]:
    """Images of 8 channels, shifts that also leave them, and masks: N, H, W, and h, w."""
    return [
        (
            noise(n, 8, height, width),
            spread * noise(n, 2 * places, h, w, seed=1),
            noise(n, places, h, w, seed=2).sigmoid(),
        )
        for n, height, width, h, w in sizes
    ]


def deform_convs(groups: int, **options: Any) -> Call:
    """Version 1 and version 2, with their weights."""
    torch.manual_seed(0)
    options |= {"groups": groups}
    first = mmcv.ops.DeformConv2d(8, 12, 3, **options)
    second = mmcv.ops.ModulatedDeformConv2d(8, 12, 3, **options)
    nn.init.normal_(second.bias)
    first.requires_grad_(False)
    return Call(first=lambda x, shift, mask: first(x, shift), second=second)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("deform_groups", [1, 2])
def test_deformable_convolution_is_mmcvs(groups: int, deform_groups: int, opset: int) -> None:
    module = deform_convs(groups, deform_groups=deform_groups, padding=2, stride=2, dilation=2)
    near = deform_inputs(9 * deform_groups, (1, 8, 10, 4, 5), (2, 13, 9, 7, 5))
    far = deform_inputs(9 * deform_groups, (3, 5, 6, 3, 3), spread=20)
    check(module, opset, *near, *far)


@pytest.mark.parametrize("opset", OPSETS)
def test_deformable_convolution_takes_maps_smaller_than_its_kernel(opset: int) -> None:
    """Whichever size was traced: mmcv pads the small ones, and a trace would keep its choice."""
    small, large = deform_inputs(9, (1, 2, 2, 2, 2), (1, 6, 9, 6, 9))
    module = deform_convs(1, padding=1)
    check(module, opset, small, large)
    check(module, opset, large, small)


def test_deformable_convolution_is_one_operator_from_19_on() -> None:
    module = Call(out=mmcv.ops.ModulatedDeformConv2dPack(8, 12, 3))
    for opset, count in (18, 0), (19, 1), (20, 1):
        with operators.standard(opset):
            model = onnx.load_from_string(export(module, opset, (noise(1, 8, 6, 6),)))
        assert [node.op_type for node in model.graph.node].count("DeformConv") == count
        assert not any(node.domain for node in model.graph.node)


@pytest.mark.parametrize("kind", [mmcv.ops.DeformConv2dPack, mmcv.ops.ModulatedDeformConv2dPack])
def test_mmcv_itself_writes_a_deformable_convolution_that_no_runtime_has(kind: type) -> None:
    model = export(Call(out=kind(8, 12, 3)), 19, (noise(1, 8, 6, 6),))
    assert any(node.domain == "mmcv" for node in onnx.load_from_string(model).graph.node)
