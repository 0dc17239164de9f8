"""PointRend, Grid R-CNN and Mask Scoring R-CNN against mmdet's own; scores of masks."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from torch import Tensor

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
from mmcv import ConfigDict
from mmdet.datasets import CocoDataset
from mmdet.models import build_head
from mmdet.models.detectors import PanopticFPN

from farm.datasets import coco
from farm.detections import Detections, ImageMeta, files
from farm.detections.compare import agreement
from farm.detections.matching import match
from farm.single.mmdet.evaluation import as_mmdet
from farm.sources.mmdet import graphs, two_stage
from farm.sources.mmdet.candidates import Candidates
from farm.specs import Tolerance

pytestmark = pytest.mark.slow
torch.set_num_threads(1)

HEIGHT, WIDTH, CLASSES, CHANNELS = 64, 96, 4, 8
LIMITS = torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT], dtype=torch.float32)
META: dict[str, Any] = {
    "img_shape": (HEIGHT, WIDTH, 3), "ori_shape": (HEIGHT, WIDTH, 3),
    "scale_factor": np.ones(4, np.float32),
}  # fmt: skip


def extractor(size: int) -> dict[str, Any]:
    layer = {"type": "RoIAlign", "output_size": size, "sampling_ratio": 0}
    strides = {"out_channels": CHANNELS, "featmap_strides": [4, 8], "finest_scale": 16}
    return {"type": "SingleRoIExtractor", "roi_layer": layer, **strides}


def mask_head(kind: str, **more: Any) -> dict[str, Any]:
    channels = {"in_channels": CHANNELS, "conv_out_channels": CHANNELS}
    return {"type": kind, "num_classes": CLASSES, **channels, **more}


def roi_head(kind: str, settings: dict[str, Any], **parts: Any) -> Any:
    """A small head whose scores and deltas vary from box to box."""
    box_head = {
        "type": "Shared2FCBBoxHead", "in_channels": CHANNELS, "fc_out_channels": 32,
        "num_classes": CLASSES, "with_reg": kind != "GridRoIHead",
    }  # fmt: skip
    nms = {"type": "nms", "iou_threshold": 0.5}
    test_cfg = {"score_thr": 0.1, "nms": nms, "max_per_img": 12, "mask_thr_binary": 0.5} | settings
    torch.manual_seed(0)
    head = build_head(ConfigDict(
        type=kind, bbox_roi_extractor=extractor(7), bbox_head=box_head, test_cfg=test_cfg, **parts
    ))  # fmt: skip
    with torch.no_grad():
        for name, weight in head.named_parameters():
            if name.endswith(("fc_cls.weight", "fc_mask_iou.weight", "fc_logits.weight")):
                weight.mul_(20)
            if name.endswith(("fc_logits.bias", "conv_logits.bias")):
                weight.normal_()
    return head.eval()


def inputs(seed: int = 0) -> tuple[list[Tensor], Tensor]:
    """Feature maps of one image at strides 4 and 8, and boxes [30, 4] in it."""
    random = torch.Generator().manual_seed(seed)
    sizes = ((HEIGHT // 4, WIDTH // 4), (HEIGHT // 8, WIDTH // 8))
    features = [torch.randn(1, CHANNELS, *size, generator=random) for size in sizes]
    corner = torch.rand(30, 2, generator=random) * LIMITS[:2] * 0.7
    size = torch.rand(30, 2, generator=random) * 40 + 8
    return features, torch.minimum(torch.cat([corner, corner + size], 1), LIMITS)


@torch.no_grad()
def ours(head: Any, features: list[Tensor], boxes: Tensor) -> Any:
    """What the graph's own reading of `head` gives, without empty rows."""
    (reader,) = (two_stage.ROI_HEADS[k] for k in two_stage.ROI_HEADS if type(head) is k)
    reader.check(head)
    proposals = Candidates(boxes[None], torch.ones(1, len(boxes)), torch.zeros(1, len(boxes)))
    found, *rest = reader.run(head, features, proposals, LIMITS)
    full = found.scores[0] > 0
    return (
        found.boxes[0][full],
        found.labels[0][full],
        [part[0][full] for part in rest if part is not None],
    )


@torch.no_grad()
def mmdets(head: Any, features: list[Tensor], boxes: Tensor, monkeypatch: Any) -> Any:
    """mmdet's result of one image, and its masks [K, m, m] before they are pasted."""
    kept: list[Tensor] = []
    if head.with_mask:
        paste = head.mask_head.get_seg_masks

        def recorded(logits: Tensor, rows: Tensor, labels: Tensor, *more: Any) -> Any:
            kept.append(logits[torch.arange(len(labels)), labels].sigmoid())
            return paste(logits, rows, labels, *more)

        monkeypatch.setattr(head.mask_head, "get_seg_masks", recorded)
    return head.simple_test(features, [boxes], [META], rescale=True)[0], kept


# PointRend ------------------------------------------------------------------------------------


def point_rend(steps: int, points: int) -> Any:
    settings = {"subdivision_steps": steps, "subdivision_num_points": points, "scale_factor": 2}
    pooled = {
        "type": "GenericRoIExtractor", "aggregation": "concat", "out_channels": CHANNELS,
        "roi_layer": {"type": "SimpleRoIAlign", "output_size": 14}, "featmap_strides": [4],
    }  # fmt: skip
    points_head = {
        "type": "MaskPointHead", "num_classes": CLASSES, "in_channels": CHANNELS, "fc_channels": 16,
    }  # fmt: skip
    return roi_head(
        "PointRendRoIHead", settings, mask_roi_extractor=pooled, point_head=points_head,
        mask_head=mask_head("CoarseMaskHead", fc_out_channels=16),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("steps", "points"),
    [
        (1, 784),  # the last step is never left out, though its 14 x 14 pixels are fewer
        (2, 784),  # the first one is: 28 x 28 pixels of the next one are predicted anyway
        (3, 100),  # of each step the most uncertain pixels only
    ],
)
def test_point_rend_predicts_the_pixels_that_mmdet_does(
    steps: int, points: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    head, given = point_rend(steps, points), inputs()
    _, _, (masks,) = ours(head, *given)
    _, (wanted,) = mmdets(head, *given, monkeypatch)
    assert len(wanted) > 5 and wanted.std() > 0.05
    assert masks.shape[1:] == (7 * 2**steps, 7 * 2**steps)
    torch.testing.assert_close(masks, wanted, atol=1e-4, rtol=0)


# Grid R-CNN -----------------------------------------------------------------------------------


def test_grid_points_move_boxes_as_mmdet_does_even_out_of_the_image(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    grid = {
        "type": "GridHead", "grid_points": 9, "num_convs": 1, "in_channels": CHANNELS,
        "point_feat_channels": 4, "norm_cfg": {"type": "GN", "num_groups": 6},
    }  # fmt: skip
    head = roi_head("GridRoIHead", {}, grid_roi_extractor=extractor(14), grid_head=grid)
    features, given = inputs()
    found, labels, _ = ours(head, features, given)
    per_class, _ = mmdets(head, features, given, monkeypatch)
    wanted = np.concatenate(per_class)
    assert len(wanted) > 5
    assert (wanted[:, :2] < 0).any() or (wanted[:, 2:4] > LIMITS[:2].numpy()).any()
    order = np.argsort(labels.numpy(), kind="stable")
    np.testing.assert_allclose(found.numpy()[order], wanted[:, :4], atol=1e-3)
    assert two_stage.ROI_HEADS[type(head)].clips_boxes is False


# Masks with scores of their own ---------------------------------------------------------------


def test_masks_are_scored_as_mmdet_does(monkeypatch: pytest.MonkeyPatch) -> None:
    overlap = {
        "type": "MaskIoUHead", "num_classes": CLASSES, "in_channels": CHANNELS, "num_convs": 2,
        "conv_out_channels": CHANNELS, "fc_out_channels": 16,
    }  # fmt: skip
    head = roi_head(
        "MaskScoringRoIHead", {}, mask_roi_extractor=extractor(14), mask_iou_head=overlap,
        mask_head=mask_head("FCNMaskHead", num_convs=1),
    )  # fmt: skip
    given = inputs()
    _, labels, (masks, scores) = ours(head, *given)
    (boxes, (_, wanted_scores)), (wanted,) = mmdets(head, *given, monkeypatch)
    torch.testing.assert_close(masks, wanted, atol=1e-4, rtol=0)
    order = np.argsort(labels.numpy(), kind="stable")
    np.testing.assert_allclose(scores.numpy()[order], np.concatenate(wanted_scores), atol=1e-6)
    assert np.abs(np.concatenate(boxes)[:, 4] - np.concatenate(wanted_scores)).max() > 0.01


def rle(left: int, right: int) -> dict[str, Any]:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    mask[10:50, left:right] = 1
    coded = coco_mask.encode(mask)
    return {"size": coded["size"], "counts": coded["counts"].decode()}


def scored(own: list[float] | None) -> Detections:
    """The better mask of the one object has the lower score of its box."""
    boxes = np.array([[10, 10, 50, 50], [12, 10, 50, 50]], np.float32)
    scores = np.array([0.9, 0.5], np.float32)
    rles = rle(30, 50), rle(12, 50)
    own_scores = None if own is None else np.array(own, np.float32)
    return Detections(boxes, scores, np.zeros(2, np.int64), None, rles, own_scores)


def annotation_file(folder: Path) -> Path:
    images = [{"id": i, "file_name": f"{i}.png", "height": HEIGHT, "width": WIDTH} for i in (1, 2)]
    objects = [
        {"id": i, "image_id": i, "category_id": 1, "bbox": [10, 10, 40, 40], "area": 1600,
         "iscrowd": 0, "segmentation": [[10, 10, 50, 10, 50, 50, 10, 50]]}
        for i in (1, 2)
    ]  # fmt: skip
    path = folder / "annotations.json"
    categories = [{"id": 1, "name": "thing"}]
    path.write_text(
        json.dumps({"images": images, "annotations": objects, "categories": categories})
    )
    return path


def test_ap_of_masks_uses_their_own_scores_as_mmdet_does(tmp_path: Path) -> None:
    path = annotation_file(tmp_path)
    metas = [
        ImageMeta(i, f"{i}.png", HEIGHT, WIDTH, HEIGHT, WIDTH, HEIGHT, WIDTH, 1.0, 1.0)
        for i in (1, 2)
    ]
    found = [scored([0.2, 0.8]), scored([0.3, 0.4])]
    figures = coco.average_precision(path, found, metas, ("thing",), True)
    data = CocoDataset(str(path), [], classes=("thing",), test_mode=True)
    wanted = data.evaluate([as_mmdet(one, 1) for one in found], ["bbox", "segm"])
    assert figures["mask_ap"] == pytest.approx(wanted["segm_mAP"], abs=5e-4)
    assert figures["box_ap"] == pytest.approx(wanted["bbox_mAP"], abs=5e-4)
    plain = coco.average_precision(path, [scored(None)] * 2, metas, ("thing",), True)
    assert plain["mask_ap"] is not None and figures["mask_ap"] is not None
    assert figures["mask_ap"] > plain["mask_ap"] + 0.1
    assert plain["box_ap"] == figures["box_ap"]


@pytest.mark.parametrize("engine", [[0.2, 0.7], None])
def test_an_engine_that_scores_masks_otherwise_is_not_the_same(engine: list[float] | None) -> None:
    limits = Tolerance()
    same = match([scored([0.2, 0.8])], [scored([0.2, 0.8])])
    other = match([scored([0.2, 0.8])], [scored(engine)])
    assert agreement(vars(same), limits).reason is None
    assert "scores differ" in str(agreement(vars(other), limits).reason)


def test_scores_of_masks_come_back_from_their_file(tmp_path: Path) -> None:
    none = np.zeros(0, np.float32)
    empty = Detections(none.reshape(0, 4), none, np.zeros(0, np.int64), None, (), none)
    kept = [scored([0.2, 0.8]), empty, scored([0.3, 0.4])]
    files.save(tmp_path / "x.npz", kept)
    for before, after in zip(kept, files.load(tmp_path / "x.npz"), strict=True):
        assert before.mask_scores is not None and after.mask_scores is not None
        np.testing.assert_array_equal(before.mask_scores, after.mask_scores)


# What is refused ------------------------------------------------------------------------------


def test_a_head_with_a_rule_of_its_own_is_refused_by_its_name() -> None:
    class Own(type(point_rend(1, 10))):  # type: ignore[misc]
        def _mask_point_forward_test(self, *given: Any) -> Any:
            return super()._mask_point_forward_test(*given)

    head = copy.copy(point_rend(1, 10))
    head.__class__ = Own
    reader = two_stage.ROI_HEADS[Own.__mro__[1]]
    with pytest.raises(ValueError, match="Own has its own _mask_point_forward_test"):
        reader.check(head)


def test_panoptic_models_are_refused_with_the_reason() -> None:
    model = PanopticFPN.__new__(PanopticFPN)
    torch.nn.Module.__init__(model)
    with pytest.raises(ValueError, match="PanopticFPN answers with a panoptic map alone"):
        graphs.graph(model)
