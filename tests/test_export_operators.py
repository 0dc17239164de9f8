"""Operators of mmcv and torch as standard ONNX: the same numbers, at sizes that were not traced."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import openvino
import pytest
import torch
from torch import Tensor, nn

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import mmcv.ops

from farm.sources.mmdet import operators

pytestmark = pytest.mark.slow

Array = npt.NDArray[Any]
OPSETS = (11, 16, 19)
torch.set_num_threads(1)


class Call(nn.Module):
    """Any function as the module to export."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


def export(module: nn.Module, inputs: tuple[Tensor, ...], opset: int) -> bytes:
    """ONNX of `module`, with every axis but the channels dynamic."""
    names = [f"input{i}" for i in range(len(inputs))]
    axes = {n: {a: f"{n}_{a}" for a in range(x.dim()) if a != 1 or x.dim() == 3}
            for n, x in zip(names, inputs, strict=True)}  # fmt: skip
    file = io.BytesIO()
    torch.onnx.export(
        module, inputs, file, dynamo=False, autograd_inlining=False, opset_version=opset,
        input_names=names, dynamic_axes=axes,
    )  # fmt: skip
    return file.getvalue()


def on_onnxruntime(model: bytes, inputs: tuple[Tensor, ...]) -> Array:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, {f"input{i}": x.numpy() for i, x in enumerate(inputs)})[0]


def on_openvino(model: bytes, inputs: tuple[Tensor, ...]) -> Array:
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = openvino.Core().compile_model(openvino.Core().read_model(model), "CPU", options)
    return np.asarray(compiled({f"input{i}": x.numpy() for i, x in enumerate(inputs)})[0])


def check(
    module: nn.Module, traced: tuple[Tensor, ...], *others: tuple[Tensor, ...], opset: int
) -> None:
    """Both runtimes give PyTorch's numbers, at the traced sizes and at the others."""
    with torch.no_grad():
        with operators.standard(opset):
            model = export(module, traced, opset)
        for inputs in (traced, *others):
            wanted = module(*inputs).numpy()
            for run in (on_onnxruntime, on_openvino):
                found = run(model, inputs)
                assert found.shape == wanted.shape
                np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5, err_msg=run.__name__)


def noise(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


# Corner pooling ------------------------------------------------------------------------------


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("mode", ["top", "bottom", "left", "right"])
def test_corner_pooling_is_the_running_maximum_at_any_size(mode: str, opset: int) -> None:
    pool = mmcv.ops.CornerPool(mode)
    sizes = noise(1, 3, 9, 12), noise(2, 3, 1, 5), noise(1, 3, 70, 33), noise(1, 3, 2, 130)
    check(pool, *((x,) for x in sizes), opset=opset)


@pytest.mark.parametrize("opset", OPSETS)
def test_torch_itself_cannot_write_a_running_maximum(opset: int) -> None:
    with pytest.raises(torch.onnx.errors.UnsupportedOperatorError, match="cummax"):
        export(mmcv.ops.CornerPool("top"), (noise(1, 3, 9, 12),), opset)
