"""Rules of two-stage heads that a whole detector's trial would show only by chance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
from mmdet.core.bbox.coder import BucketingBBoxCoder
from mmdet.models.dense_heads.cascade_rpn_head import StageCascadeRPNHead
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor

from farm import specs
from farm.errors import StepFailed
from farm.sources import onnx_files
from farm.sources.mmdet import patches
from farm.sources.mmdet.dense import coders
from farm.sources.mmdet.two_stage import proposals
from farm.sources.mmdet.two_stage.pooling import pool
from farm.specs import Dims

pytestmark = pytest.mark.slow
torch.set_num_threads(1)


def noise(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def boxes(count: int, seed: int = 0) -> Tensor:
    """[count, 4], partly beyond an image of 96 by 64 pixels."""
    corner = torch.rand(count, 2, generator=torch.Generator().manual_seed(seed)) * 90
    return torch.cat([corner, corner + noise(count, 2, seed=seed + 1).abs() * 30], 1)


def shape(size: tuple[int, int]) -> specs.Shape:
    return specs.Shape("s", Dims(1, 3, 32, 32), Dims(1, 3, *size), Dims(2, 3, 256, 256))


def exported(module: Any, opset: int, path: Path, size: tuple[int, int]) -> Any:
    """A runner of `module`'s file with dynamic axes."""
    with patches.standard(opset):
        onnx_files.write(module, shape(size), opset, path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images.numpy()})


# Adaptive pooling -----------------------------------------------------------------------------


class Pyramid(nn.Module):
    """images -> finer levels pooled to coarser ones, as Libra R-CNN's neck does."""

    outputs = ("by_two", "by_four")

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        half = images[:, :, ::2, ::2]
        quarter = half[:, :, ::2, ::2]
        pooled = torch.nn.functional.adaptive_max_pool2d
        return tuple(pooled(level, quarter.shape[2:]) for level in (half, images))


@pytest.mark.parametrize("opset", [11, 17])
def test_levels_are_pooled_to_coarser_ones_of_any_size(tmp_path: Path, opset: int) -> None:
    run = exported(Pyramid(), opset, tmp_path / "pyramid.onnx", (33, 40))
    for height, width in ((32, 40), (33, 41), (35, 38), (61, 34), (200, 67)):
        images = noise(2, 3, height, width)
        for found, wanted in zip(run(images), Pyramid()(images), strict=True):
            np.testing.assert_array_equal(found, wanted.numpy())


def test_torch_itself_cannot_write_pooling_to_a_size_that_varies(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="output_size is not constant"):
        onnx_files.write(Pyramid(), shape((33, 40)), 17, tmp_path / "pyramid.onnx")


# Boxes whose sides have crossed ---------------------------------------------------------------


class Pooled(nn.Module):
    """images -> features of boxes, some of which end before they start."""

    outputs = ("pooled",)

    def __init__(self) -> None:
        super().__init__()
        layer = {"type": "RoIAlign", "output_size": 3, "sampling_ratio": 0}
        self.extractor = SingleRoIExtractor(layer, 3, [4, 8], finest_scale=8)
        self.register_buffer("boxes", boxes(12))
        self.boxes[::3] = self.boxes[::3][:, [2, 1, 0, 3]]
        self.boxes[1::3] = self.boxes[1::3][:, [2, 3, 0, 1]]

    def forward(self, images: Tensor) -> Tensor:
        levels = [images[:, :, ::4, ::4].contiguous(), images[:, :, ::8, ::8].contiguous()]
        return pool(self.extractor, levels, self.boxes.expand(images.shape[0], -1, -1))


@pytest.mark.parametrize("opset", [11, 17])
def test_boxes_with_crossed_sides_have_no_features(tmp_path: Path, opset: int) -> None:
    images, module = noise(1, 3, 64, 96), Pooled()
    levels = [images[:, :, ::4, ::4].contiguous(), images[:, :, ::8, ::8].contiguous()]
    wanted = torch.zeros(12, 3, 3, 3)  # mmcv's GPU operator; its CPU one refuses such boxes
    wanted[2::3] = module.extractor(levels, torch.cat([torch.zeros(4, 1), module.boxes[2::3]], 1))
    found = exported(module, opset, tmp_path / "pooled.onnx", (64, 96))(images)[0]
    np.testing.assert_allclose(found, wanted.numpy(), atol=1e-5)


# SABL -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("clips", [True, False])
def test_boxes_of_buckets_are_mmdets(clips: bool) -> None:
    coder = BucketingBBoxCoder(num_buckets=14, scale_factor=1.7, clip_border=clips)
    regions, logits, offsets = boxes(40), noise(40, 28), noise(40, 28, seed=1)
    wanted, confidence = coder.decode(regions, (logits, offsets), (64, 96))
    found, sure = coders.decode_buckets(
        coder, regions.reshape(2, 20, 4), (logits, offsets), torch.tensor([96.0, 64, 96, 64])
    )
    torch.testing.assert_close(found.reshape(40, 4), wanted)
    torch.testing.assert_close(sure.reshape(40), confidence)


# Cascade RPN ----------------------------------------------------------------------------------


def test_offsets_to_anchors_are_mmdets() -> None:
    stage = StageCascadeRPNHead(4, feat_channels=4, adapt_cfg={"type": "offset"})
    sizes = [(6, 9), (3, 5)]
    anchors = [[boxes(54), boxes(15)], [boxes(54, seed=5), boxes(15, seed=6)]]
    wanted = stage.anchor_offset(anchors, [8, 16], sizes)
    for level, (size, stride) in enumerate(zip(sizes, (8, 16), strict=True)):
        both = torch.stack([image[level] for image in anchors])
        found = proposals._offset(noise(2, 4, *size), both, stride)
        torch.testing.assert_close(found, wanted[level])
