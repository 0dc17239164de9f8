"""Instance segmentation without regions of interest: its own rules, each against mmdet's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import openvino
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from farm import specs
from farm.detections import Detections, ImageMeta
from farm.detections.convert import to_original
from farm.detections.masks import KINDS
from farm.detections.masks import resized as resize_masks
from farm.detections.matching import match
from farm.plan.content.configs import config_file
from farm.sources.mmdet import compat  # noqa: F401

# isort: split
from mmdet.core import mask_matrix_nms
from mmdet.core.post_processing.bbox_nms import fast_nms
from mmdet.models.dense_heads.yolact_head import YOLACTProtonet
from mmdet.models.seg_heads.panoptic_fusion_heads import MaskFormerFusionHead
from pycocotools import mask as coco_mask

from farm.sources.mmdet import candidates, config, graphs
from farm.sources.mmdet.segments import mask_heads, solo, yolact

pytestmark = pytest.mark.slow
torch.set_num_threads(1)


def blobs(count: int, height: int, width: int, seed: int = 3) -> Tensor:
    """Smooth random values [count, h, w], around 0."""
    grid = torch.randn(1, count, 5, 6, generator=torch.Generator().manual_seed(seed))
    return functional.interpolate(grid, size=(height, width), mode="bilinear")[0]


# Masks of the whole input, sized to the image ---------------------------------------------------

META = ImageMeta(0, "", 75, 91, 97, 118, 100, 120, 1.3, 1.3)


def sized_as_mmdet(masks: Tensor, kind: str) -> Tensor:
    """What each of mmdet's heads does with [K, h, w], up to the original image."""
    original, valid = (META.original_h, META.original_w), (META.valid_h, META.valid_w)
    if kind == "image":  # YOLACTProtonet.get_seg_masks
        return functional.interpolate(masks[None], original, mode="bilinear")[0]
    enlarged = (META.height, META.width)  # MaskFormerHead.simple_test
    if kind == "segments":  # SOLOHead._get_results_single
        enlarged = (masks.shape[1] * 4, masks.shape[2] * 4)
    masks = functional.interpolate(masks[None], enlarged, mode="bilinear")
    return functional.interpolate(masks[:, :, : valid[0], : valid[1]], original, mode="bilinear")[0]


@pytest.mark.parametrize("kind", KINDS)
def test_masks_are_sized_as_the_head_does_it(kind: str) -> None:
    """26 cells of 4 pixels reach over the input's 100 pixels: SOLO enlarges to 104 first."""
    masks = blobs(7, 26, 30)
    resized = np.stack(resize_masks(masks.numpy(), META, kind))
    assert np.abs(resized - sized_as_mmdet(masks, kind).numpy()).max() < 1e-5


def found(masks: Tensor) -> Detections:
    count = len(masks)
    scores = np.linspace(0.9, 0.5, count, dtype=np.float32)
    boxes = np.zeros((count, 4), np.float32)
    return Detections(boxes, scores, np.zeros(count, np.int64), masks.numpy())


def test_boxes_of_segments_are_those_around_their_masks() -> None:
    masks = torch.zeros(2, 25, 30)
    masks[0, 5:10, 4:20] = 1
    at_home = ImageMeta(0, "", 100, 120, 100, 120, 100, 120, 1.0, 1.0)
    one = to_original(found(masks), at_home, False, 0.5, "segments")
    assert one.boxes.tolist() == [[16, 20, 80, 40], [0, 0, 0, 0]]
    kept = to_original(found(masks), at_home, False, 0.5, "image")
    assert not kept.boxes.any()  # of the kind "image" they are the model's own


def test_scores_of_queries_are_mmdets_at_the_original_size() -> None:
    """The mean probability inside the mask, over the image and not over the coarse cells."""
    logits = blobs(6, 25, 30) * 4
    one = to_original(found(logits), META, False, 0.0, "queries")
    fusion = MaskFormerFusionHead(1, 0, test_cfg={"max_per_image": 6})
    classes = torch.stack([torch.from_numpy(found(logits).scores).logit(), torch.zeros(6)], 1)
    _, boxes, masks = fusion.instance_postprocess(classes, sized_as_mmdet(logits, "queries"))
    order = boxes[:, 4].argsort(descending=True)
    assert np.abs(one.scores - boxes[order, 4].numpy()).max() < 1e-5
    assert np.array_equal(one.boxes, boxes[order, :4].numpy())
    assert one.rles is not None
    inside = np.stack([coco_mask.decode(dict(rle)) for rle in one.rles])
    assert np.array_equal(inside, masks[order].numpy())
    coarse = (logits.sigmoid() * (logits > 0)).sum((1, 2)) / (logits > 0).sum((1, 2))
    coarse = (coarse * torch.from_numpy(found(logits).scores)).sort(descending=True).values
    assert np.abs(coarse.numpy() - one.scores).max() > 1e-3  # else sizes would not matter


@pytest.mark.parametrize("kind", ["mask2former", "maskformer"])
def test_a_mask_transformer_is_read_for_its_instances_only(kind: str) -> None:
    """mmdet's MaskFormer answers with a panoptic map unless its test settings say otherwise."""
    names = {"mask2former": "lsj_8x2_50e_coco-panoptic", "maskformer": "mstrain_16x1_75e_coco"}
    file = config_file(f"{kind}/{kind}_r50_{names[kind]}.py", Path())
    settings = config.read(specs.Model("m", "mmdet", file, specs.File("", "")))
    settings.model.test_cfg.update(instance_on=False, panoptic_on=True)
    with pytest.raises(ValueError, match=r"Former gives panoptic .* `model\.test_cfg\.instance_on"):
        graphs.graph(config.build(settings, ""))
    settings.model.test_cfg.update(instance_on=True, panoptic_on=False)
    assert graphs.graph(config.build(settings, "")).outputs == ("dets", "labels", "masks")


def test_equal_boxes_are_matched_by_their_masks() -> None:
    """Boxes around masks often span the image, whatever the mask; scores may change places."""
    masks = torch.zeros(2, 25, 30)
    masks[:, [0, -1]] = 1
    masks[0, 5:9], masks[1, 15:20] = 1, 1
    one = to_original(found(masks), META, False, 0.5, "segments")
    other = replace(one, scores=one.scores[::-1])
    assert len(set(map(tuple, one.boxes.tolist()))) == 1
    assert match([one], [other]).mask_iou.tolist() == [1, 1]


# Matrix NMS ------------------------------------------------------------------------------------


def masks_to_suppress() -> tuple[Tensor, Tensor, Tensor]:
    masks = (blobs(30, 16, 20) > 0.2).float()
    random = torch.Generator().manual_seed(5)
    labels = torch.randint(0, 3, (30,), generator=random)
    return masks, labels, torch.rand(30, generator=random)


@pytest.mark.parametrize("kernel", ["gaussian", "linear"])
def test_matrix_nms_gives_mmdets_scores(kernel: str) -> None:
    """Two images at once; in the second, half of the rows do not take part."""
    masks, labels, scores = masks_to_suppress()
    cfg = SimpleNamespace(kernel=kernel, sigma=2.0, filter_thr=0.05)
    part = torch.where(torch.arange(30) % 2 > 0, scores, torch.zeros(()))
    both = torch.stack([scores, part])
    areas = masks.sum((1, 2)).expand(2, -1)
    decayed = solo.decayed(
        masks.flatten(1).expand(2, -1, -1), areas, labels.expand(2, -1), both, cfg
    )
    for got, rows in zip(decayed, (torch.arange(30), torch.arange(1, 30, 2)), strict=True):
        expected, _, _, keep = mask_matrix_nms(
            masks[rows].bool(), labels[rows], scores[rows].clone(), mask_area=areas[0][rows],
            kernel=kernel, sigma=2.0, filter_thr=0.05,
        )  # fmt: skip
        wanted = torch.zeros(30).index_put((rows[keep],), expected)
        assert torch.allclose(got, wanted, atol=1e-6)
        assert (wanted < scores - 0.01).sum() > 10  # else there was nothing to decay


def test_a_row_that_does_not_take_part_decays_nothing() -> None:
    """Nor does an empty mask, whose overlap with another empty one is 0 / 0."""
    masks, labels, scores = masks_to_suppress()
    masks[3:6] = 0
    scores[3:6] = 0
    cfg = SimpleNamespace(kernel="gaussian", sigma=2.0, filter_thr=-1)

    def run(rows: Tensor) -> Tensor:
        areas = masks[rows].sum((1, 2))
        arguments = masks[rows].flatten(1), areas, labels[rows], scores[rows]
        return solo.decayed(*(one[None] for one in arguments), cfg)[0]

    rest = torch.cat([torch.arange(3), torch.arange(6, 30)])
    assert torch.equal(run(torch.arange(30))[rest], run(rest))


# YOLACT ----------------------------------------------------------------------------------------


def random_boxes(count: int) -> Tensor:
    corner = torch.rand(count, 2, generator=torch.Generator().manual_seed(2)) * 60
    size = 20 + torch.rand(count, 2, generator=torch.Generator().manual_seed(4)) * 30
    return torch.cat([corner, corner + size], 1)


def test_fast_nms_drops_what_a_dropped_box_overlaps() -> None:
    boxes = random_boxes(60)
    scores = torch.rand(60, 4, generator=torch.Generator().manual_seed(8))
    cfg = SimpleNamespace(top_k=20, iou_thr=0.3, score_thr=0.2, max_per_img=15)
    both, row = yolact._fast_nms(boxes.expand(2, -1, -1), scores.expand(2, -1, -1), cfg)
    padded = torch.cat([scores, torch.zeros(60, 1)], 1)
    dets, labels, rows = fast_nms(boxes, padded, torch.arange(60.0)[:, None], 0.2, 0.3, 20, 15)
    for i in range(2):
        kept = both.scores[i] > 0
        assert torch.equal(both.boxes[i][kept], dets[:, :4])
        assert torch.equal(both.scores[i][kept], dets[:, 4])
        assert torch.equal(both.labels[i][kept], labels)
        assert torch.equal(row[i][kept], rows[:, 0].long())


def test_masks_are_cut_to_their_boxes_and_a_cell_around() -> None:
    boxes = random_boxes(20) / 100
    boxes[0] = torch.tensor([0.9, 0.95, 0.8, 0.99])  # turned round: mmdet keeps one column
    masks = torch.ones(1, 20, 25, 30)
    cut = masks * yolact._inside(boxes[None], masks)
    expected = YOLACTProtonet.crop(_Protonet(), masks[0].permute(1, 2, 0), boxes.clone())
    assert torch.equal(cut[0], expected.permute(2, 0, 1))


class _Protonet:
    sanitize_coordinates = YOLACTProtonet.sanitize_coordinates


# Operators -------------------------------------------------------------------------------------


def test_a_query_to_which_all_is_hidden_sees_all() -> None:
    hidden = torch.tensor([[[True, True, True], [True, False, True]]])
    assert mask_heads._opened(hidden).tolist() == [[[False] * 3, [True, False, True]]]


class Net(nn.Module):
    """A call of what is tried, as a module."""

    def __init__(self, call: Any) -> None:
        super().__init__()
        self.call = call

    def forward(self, *values: Tensor) -> Any:
        return self.call(*values)


@pytest.mark.parametrize("opset", [11, 17])
def test_picking_maps_follows_their_size_in_a_file(tmp_path: Path, opset: int) -> None:
    path = tmp_path / "picked.onnx"
    maps, index = torch.rand(1, 5, 4, 6), torch.tensor([[3, 0]])
    axes = {"maps": {0: "n", 2: "h", 3: "w"}, "index": {0: "n"}}
    torch.onnx.export(
        Net(candidates.select_rows), (maps, index), str(path), dynamo=False, opset_version=opset,
        input_names=["maps", "index"], output_names=["picked"], dynamic_axes=axes,
    )  # fmt: skip
    maps, index = torch.rand(2, 5, 7, 3), torch.tensor([[3, 0], [1, 1]])
    expected = torch.stack([maps[i][index[i]] for i in range(2)]).numpy()
    given = {"maps": maps.numpy(), "index": index.numpy()}
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert np.array_equal(session.run(None, given)[0], expected)
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert np.array_equal(compiled(given)[0], expected)
