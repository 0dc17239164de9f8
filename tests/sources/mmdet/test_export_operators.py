"""Operators of mmcv and torch as standard ONNX: the same numbers, at sizes that were not traced."""

from __future__ import annotations

import io
import itertools
import math
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
from mmdet.models.dense_heads import GuidedAnchorHead, VFNetHead
from mmdet.models.necks import FPN_CARAFE
from mmdet.models.necks.dyhead import DyHeadBlock

from farm.runtimes.openvino import adapter
from farm.sources.mmdet import patches
from farm.sources.mmdet.patches.pooling import deform_roi_pool, pooled
from farm.sources.mmdet.patches.sampling import carafe

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
    core = adapter.core_with_operators()
    compiled = core.compile_model(core.read_model(model), "CPU", exact)
    yield "OpenVINO", lambda feed: compiled(feed).values()


def check(module: Call, opset: int, traced: Inputs, *others: Inputs) -> None:
    """Both runtimes give PyTorch's numbers, at the traced sizes and at the others."""
    with patches.standard(opset):
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
        with patches.standard(opset):
            model = onnx.load_from_string(export(module, opset, (noise(1, 8, 6, 6),)))
        assert [node.op_type for node in model.graph.node].count("DeformConv") == count
        assert not any(node.domain for node in model.graph.node)


@pytest.mark.parametrize("kind", [mmcv.ops.DeformConv2dPack, mmcv.ops.ModulatedDeformConv2dPack])
def test_mmcv_itself_writes_a_deformable_convolution_that_no_runtime_has(kind: type) -> None:
    model = export(Call(out=kind(8, 12, 3)), 19, (noise(1, 8, 6, 6),))
    assert any(node.domain == "mmcv" for node in onnx.load_from_string(model).graph.node)


# Deformable attention ---------------------------------------------------------------------------


def attend(*inputs: Tensor) -> Tensor:
    from mmcv.ops import multi_scale_deform_attn

    return multi_scale_deform_attn.multi_scale_deformable_attn_pytorch(*inputs)


def attention_inputs(images: int, queries: int, *levels: tuple[int, int]) -> Inputs:
    """Values of 2 heads with 4 channels, for 3 points a level, some of them outside."""
    value = noise(images, sum(h * w for h, w in levels), 2, 4)
    places = 0.5 + 0.5 * noise(images, queries, 2, len(levels), 3, 2, seed=1)
    weights = noise(images, queries, 2, len(levels), 3, seed=2).sigmoid()
    return value, torch.tensor(levels), places, weights


@pytest.mark.parametrize("opset", OPSETS)
def test_deformable_attention_follows_the_sizes_of_the_levels(opset: int) -> None:
    inputs = attention_inputs(1, 5, (6, 8), (3, 4)), attention_inputs(2, 7, (5, 9), (1, 2))
    check(Call(out=attend), opset, *inputs)


def test_mmcv_itself_cannot_write_deformable_attention_below_16() -> None:
    with pytest.raises(torch.onnx.errors.OnnxExporterError):
        export(Call(out=attend), 15, attention_inputs(1, 5, (6, 8), (3, 4)))


# What mmcv has for CUDA only --------------------------------------------------------------------


@pytest.fixture
def completed() -> None:
    patches.complete()


def by_definition(features: Tensor, masks: Tensor, kernel: int, groups: int, scale: int) -> Tensor:
    """CARAFE as its paper defines it, place by place."""
    n, c, h, w = features.shape
    out = torch.zeros(n, c, h * scale, w * scale)
    reach = range(-(kernel // 2), kernel // 2 + 1)
    for image, channel, y, x in itertools.product(*map(range, out.shape)):
        group = channel // (c // groups)
        for place, (dy, dx) in enumerate(itertools.product(reach, reach)):
            row, column = y // scale + dy, x // scale + dx
            if 0 <= row < h and 0 <= column < w:
                weight = masks[image, group * kernel**2 + place, y, x]
                out[image, channel, y, x] += weight * features[image, channel, row, column]
    return out


@pytest.mark.parametrize("groups", [1, 2])
def test_carafe_is_as_its_paper_defines_it(groups: int) -> None:
    features, masks = noise(2, 4, 3, 5), noise(2, 9 * groups, 6, 10, seed=1)
    wanted = by_definition(features, masks, 3, groups, 2)
    torch.testing.assert_close(carafe(features, masks, 3, groups, 2), wanted, rtol=0, atol=1e-5)


@pytest.mark.usefixtures("completed")
@pytest.mark.parametrize("opset", OPSETS)
def test_carafe_is_the_same_at_every_size(opset: int) -> None:
    torch.manual_seed(0)
    layer = mmcv.ops.CARAFEPack(8, 2, up_group=2)
    nn.init.normal_(layer.content_encoder.weight, std=0.1)
    check(Call(out=layer), opset, (noise(1, 8, 5, 6),), (noise(2, 8, 4, 9),))


class Finest(FPN_CARAFE):
    """The finest level of CARAFE's pyramid, of two."""

    def forward(self, *levels: Tensor) -> Tensor:
        finest: Tensor = super().forward(levels)[0]
        return finest


@pytest.mark.usefixtures("completed")
def test_carafes_pyramid_cuts_levels_where_the_traced_ones_fitted() -> None:
    torch.manual_seed(0)
    pyramid = Finest([2, 2], 4, 2).eval()
    fits, longer = (noise(1, 2, 4, 6), noise(1, 2, 2, 3)), (noise(2, 2, 3, 7), noise(2, 2, 2, 4))
    check(Call(out=pyramid), 17, fits, longer)


def bilinear_as_mmcv(image: Tensor, y: float, x: float) -> Tensor:
    """[C] of an image [C, H, W]: zero more than a cell outside, else the nearest cell's there."""
    height, width = image.shape[1:]
    if not (-1 <= y <= height and -1 <= x <= width):
        return image.new_zeros(image.shape[0])
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    row, column = int(y), int(x)
    below, right = min(row + 1, height - 1), min(column + 1, width - 1)
    upper = image[:, row, column] * (1 - x + column) + image[:, row, right] * (x - column)
    lower = image[:, below, column] * (1 - x + column) + image[:, below, right] * (x - column)
    return upper * (1 - y + row) + lower * (y - row)


def pooled_bin(
    image: Tensor, roi: list[float], offset: Tensor, bin_: tuple[int, int], size: int, scale: float
) -> Tensor:
    """One bin as mmcv's kernel for CUDA computes it: [C]."""
    start = [roi[2] * scale - 0.5, roi[1] * scale - 0.5]
    extent = [roi[4] * scale - 0.5 - start[0], roi[3] * scale - 0.5 - start[1]]
    counts = [math.ceil(side / size) for side in extent]
    steps = [side / size for side in extent]
    shift = [0.1 * extent[0] * float(offset[1]), 0.1 * extent[1] * float(offset[0])]
    found = [
        bilinear_as_mmcv(image, *(
            start[a] + shift[a] + bin_[a] * steps[a] + (i + 0.5) * steps[a] / counts[a]
            for a, i in enumerate(sample)
        ))
        for sample in itertools.product(*map(range, counts))
    ]  # fmt: skip
    return torch.stack(found).mean(0)


ROIS = torch.tensor(
    [[0, 3, 5, 40, 61.5], [1, -9.3, 2, 8.1, 70], [0, 20, 31, 23, 33], [1, 0, 0, 63, 63]]
)


def test_deform_roi_pool_is_as_mmcvs_kernel_for_cuda() -> None:
    features, offset = noise(2, 3, 17, 18), noise(4, 2, 3, 3, seed=1)
    found = deform_roi_pool(features, ROIS, offset, (3, 3), 0.25)
    for row, roi in enumerate(ROIS.tolist()):
        for y, x in itertools.product(range(3), range(3)):
            own = offset[row, :, y, x]
            wanted = pooled_bin(features[int(roi[0])], roi, own, (y, x), 3, 0.25)
            torch.testing.assert_close(found[row, :, y, x], wanted, rtol=0, atol=1e-4)


@pytest.mark.usefixtures("completed")
@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("kind", ["DeformRoIPoolPack", "ModulatedDeformRoIPoolPack"])
def test_deformable_roi_pooling_is_the_same_at_every_size(kind: str, opset: int) -> None:
    torch.manual_seed(0)
    layer = getattr(mmcv.ops, kind)(3, 8, 16, spatial_scale=0.25)
    nn.init.normal_(layer.offset_fc[-1].weight, std=0.3)
    call = Call(out=lambda features, rois: pooled(layer, features, rois))
    layer.requires_grad_(False)
    features = noise(2, 8, 17, 18)
    torch.testing.assert_close(call(features, ROIS)[0], layer(features, ROIS))
    check(call, opset, (features, ROIS[:0]), (noise(2, 8, 9, 31), ROIS), (features, ROIS[:3]))


@pytest.mark.usefixtures("completed")
def test_guided_anchoring_masks_each_image_of_a_batch_by_its_own_places() -> None:
    torch.manual_seed(0)
    head = GuidedAnchorHead(3, 8, 8, loc_filter_thr=0.5).eval()
    images = noise(2, 8, 6, 7)
    with torch.no_grad():
        both = head([images])
        alone = [head([image[None]]) for image in images]
    for level, *levels in zip(both, *alone, strict=True):
        torch.testing.assert_close(level[0], torch.cat([one[0] for one in levels]))
    assert (both[0][0] == 0).any(1).any()


@pytest.mark.usefixtures("completed")
def test_a_masked_convolution_is_one_that_is_zero_elsewhere() -> None:
    torch.manual_seed(0)
    layer, x = mmcv.ops.MaskedConv2d(4, 6, 3, padding=1), noise(1, 4, 5, 7)
    mask = noise(1, 5, 7, seed=1) > 0
    torch.testing.assert_close(layer(x, mask), layer(x) * mask)


# Shifts of a layer's own ------------------------------------------------------------------------


def dyhead_block() -> Callable[..., Tensor]:
    """All levels that one block gives, side by side; its shifts reach over some pixels."""
    torch.manual_seed(0)
    block = DyHeadBlock(16, 16, zero_init_offset=False).requires_grad_(False)
    block.spatial_conv_offset.weight *= 10
    return lambda *levels: torch.cat([out.flatten(2) for out in block(levels)], 2)


def pyramid(images: int, height: int, width: int) -> Inputs:
    sizes = ((-(-height // 2**i), -(-width // 2**i)) for i in range(3))
    return tuple(noise(images, 16, *size, seed=i) for i, size in enumerate(sizes))


@pytest.mark.parametrize("opset", OPSETS)
def test_dyhead_takes_shifts_of_other_levels_as_mmcvs_kernel_reads_them(opset: int) -> None:
    sizes = pyramid(1, 12, 16), pyramid(2, 12, 16), pyramid(1, 9, 7)
    check(Call(levels=dyhead_block()), opset, *sizes)


@pytest.mark.parametrize("opset", OPSETS)
def test_vfnets_star_points_to_the_corners_and_edges_of_each_box(opset: int) -> None:
    head = VFNetHead(80, 16, feat_channels=16, norm_cfg=None)
    sizes = noise(1, 4, 6, 8).exp(), noise(2, 4, 5, 3).exp()
    star = Call(star=lambda sides: VFNetHead.star_dcn_offset(head, sides, 0.1, 8))
    check(star, opset, *((sides,) for sides in sizes))
