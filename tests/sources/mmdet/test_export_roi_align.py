"""RoIAlign in files of every opset: the features that mmcv takes from boxes of every width."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import openvino
import pytest
import torch
from torch import Tensor, nn

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import mmcv.ops

from farm import specs
from farm.sources import onnx_files
from farm.sources.mmdet import patches
from farm.sources.mmdet.patches.roi_align import RoiAlign
from farm.specs import Dims

pytestmark = pytest.mark.slow
torch.set_num_threads(1)

STRIDE = 8
SIZE = (64, 96)
BOXES = {
    "large": (3, 5, 90, 60),
    "small": (20, 20, 31, 29),
    "narrow": (20.5, 6, 23, 50),
    "flat": (5, 33, 70, 35.5),
    "speck": (40.2, 30.1, 40.9, 30.3),
    "across a cell's border": (42, 34, 46, 38),
    "in the top left corner": (0, 0, 2, 3),
    "in the bottom right corner": (94.5, 61, 96, 64),
    "one cell": (32, 24, 40, 32),
    "without width": (50, 10, 50, 40),
    "of no extent": (96, 64, 96, 64),
}


class Pooled(nn.Module):
    """images -> what RoIAlign makes of them as features of `BOXES`, of one image and of two."""

    outputs = ("pooled",)

    def __init__(self, ratio: int, aligned: bool) -> None:
        super().__init__()
        self.layer = mmcv.ops.RoIAlign(4, 1 / STRIDE, ratio, "avg", aligned)
        boxes = torch.tensor(list(BOXES.values()))
        self.register_buffer("rois", torch.cat([torch.zeros(len(boxes), 1), boxes], 1))

    def forward(self, images: Tensor) -> Tensor:
        features = images[:, :, ::STRIDE, ::STRIDE].contiguous()
        last = torch._shape_as_tensor(images)[0].to(torch.float32) - 1
        shift = torch.stack([last] + [torch.zeros(())] * 4)
        return self.layer(features, torch.cat([self.rois, self.rois + shift]))


class Naive(Pooled):
    """The same by ONNX's RoiAlign alone, the boxes moved by half a cell below opset 16."""

    def forward(self, images: Tensor) -> Tensor:
        boxes, index = self.rois[:, 1:] - STRIDE / 2, self.rois[:, 0].long()
        return RoiAlign.apply(
            images[:, :, ::STRIDE, ::STRIDE].contiguous(), boxes, index, 4, 1 / STRIDE, 0, False
        )


def image(batch: int) -> np.ndarray:
    random = torch.Generator().manual_seed(0)
    return torch.randn(batch, 3, *SIZE, generator=random).numpy()


def export(module: nn.Module, opset: int, path: Path, standard: bool = True) -> Path:
    least, most = Dims(1, 3, 32, 32), Dims(2, 3, 128, 128)
    shape = specs.Shape("dynamic", least, Dims(1, 3, *SIZE), most)
    with patches.standard(opset) if standard else nullcontext():
        onnx_files.write(module, shape, opset, path)
    return path


def by_onnxruntime(path: Path, images: np.ndarray) -> Any:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images})[0]


def by_openvino(path: Path, images: np.ndarray) -> Any:
    model = openvino.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return model([images])[0]


def worst(found: np.ndarray, module: Pooled, images: np.ndarray) -> dict[str, float]:
    """The largest difference from mmcv's features, by box."""
    expected = Pooled(module.layer.sampling_ratio, module.layer.aligned)(torch.from_numpy(images))
    difference = np.abs(found - expected.numpy()[: len(found)]).reshape(-1, len(BOXES), 3 * 16)
    return dict(zip(BOXES, difference.max((0, 2)).tolist(), strict=True))


@pytest.mark.parametrize("run", [by_onnxruntime, by_openvino])
@pytest.mark.parametrize("opset", range(11, 21))
def test_features_of_every_box_are_mmcvs(
    tmp_path: Path, opset: int, run: Callable[[Path, np.ndarray], Any]
) -> None:
    for ratio, aligned in ((0, True), (2, True), (0, False), (2, False)):
        module = Pooled(ratio, aligned)
        path = export(module, opset, tmp_path / f"{ratio}{aligned}.onnx")
        for batch in (1, 2):
            difference = worst(run(path, image(batch)), module, image(batch))
            assert max(difference.values()) < 1e-5, (ratio, aligned, batch, difference)


def test_below_16_plain_roi_align_widens_narrow_boxes(tmp_path: Path) -> None:
    module = Naive(0, True)
    path = export(module, 11, tmp_path / "naive.onnx")
    difference = worst(by_onnxruntime(path, image(1)), module, image(1))
    assert difference["large"] < 1e-5 and difference["one cell"] < 1e-5
    assert all(difference[name] > 0.1 for name in ("narrow", "flat", "speck", "without width"))


# mmcv and torch speak of deprecation while its symbolic runs.
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_from_16_on_mmcvs_own_symbolic_moves_boxes_twice(tmp_path: Path) -> None:
    module = Pooled(0, True)
    moved = {}
    for opset in (15, 16):
        path = export(module, opset, tmp_path / f"{opset}.onnx", standard=False)
        moved[opset] = worst(by_onnxruntime(path, image(1)), module, image(1))["large"]
    assert moved[15] < 1e-5 and moved[16] > 0.1
