"""Soft-NMS as standard ONNX: mmcv's rounds, for batches and counts that were not traced."""

from __future__ import annotations

import io

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from torch import Tensor, nn

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import mmcv.ops

from farm.sources.mmdet.candidates import Candidates, suppress, suppression
from farm.sources.mmdet.patches.suppression import METHODS, soft_nms
from farm.specs import Decay

pytestmark = pytest.mark.slow

KEEP = 40
torch.set_num_threads(1)


def drawn(images: int, rows: int) -> tuple[Tensor, Tensor]:
    """Boxes that overlap much, and scores of which a tenth do not take part."""
    random = torch.Generator().manual_seed(rows)
    corner = torch.rand(images, rows, 2, generator=random) * 40
    size = torch.rand(images, rows, 2, generator=random) * 30
    scores = torch.rand(images, rows, generator=random)
    boxes = torch.cat([corner, corner + size], 2)
    return boxes, torch.where(scores < 0.1, torch.zeros_like(scores), scores)


def by_mmcv(boxes: Tensor, scores: Tensor, decay: Decay) -> Tensor:
    """[M]: the score at which mmcv picked each box among its first `KEEP`, else 0."""
    rows = (scores > 0).nonzero().squeeze(1)
    dets, picked = mmcv.ops.soft_nms(
        boxes[rows], scores[rows], decay.iou, decay.sigma, decay.min_score, decay.method,
        decay.offset,
    )  # fmt: skip
    return torch.zeros_like(scores).index_put((rows[picked[:KEEP]],), dets[:KEEP, 4])


DECAYS = [Decay(0.5, method=method) for method in METHODS] + [Decay(0.3, 0.3, 0.6, "gaussian", 1)]


@pytest.mark.parametrize("decay", DECAYS, ids=str)
def test_each_box_has_the_score_at_which_mmcv_picks_it(decay: Decay) -> None:
    boxes, scores = drawn(2, 150)
    found = soft_nms(boxes, scores, KEEP, decay)
    for i in range(2):
        expected = by_mmcv(boxes[i], scores[i], decay)
        assert 5 < int((expected > 0).sum()) <= KEEP
        assert torch.equal(found[i] > 0, expected > 0)
        assert torch.allclose(found[i], expected, atol=2e-7, rtol=0)


def test_the_best_box_stays_once_all_are_picked() -> None:
    boxes, scores = drawn(1, 10)
    scores, order = scores.sort(descending=True)
    boxes = boxes.gather(1, order.unsqueeze(2).expand(-1, -1, 4))
    assert soft_nms(boxes, scores, KEEP, Decay(0.5))[0, 0] == scores[0, 0]


class _Module(nn.Module):
    def forward(self, boxes: Tensor, scores: Tensor) -> Tensor:
        return soft_nms(boxes, scores, KEEP, Decay(0.5, method="gaussian"))


@pytest.mark.parametrize("opset", [11, 20])
def test_one_loop_does_it_at_any_batch_and_number_of_rows(opset: int) -> None:
    file = io.BytesIO()
    torch.onnx.export(
        _Module(), drawn(2, 60), file, dynamo=False, opset_version=opset,
        input_names=["boxes", "scores"],
        dynamic_axes={"boxes": {0: "n", 1: "m"}, "scores": {0: "n", 1: "m"}},
    )  # fmt: skip
    graph = onnx.load_from_string(file.getvalue()).graph
    assert [node.op_type for node in graph.node].count("Loop") == 1
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.compile_model(openvino.Core().read_model(file.getvalue()), "CPU", exact)
    for images, rows in ((2, 60), (1, 7), (3, 200)):
        boxes, scores = drawn(images, rows)
        expected = _Module()(boxes, scores).numpy()
        fed = {"boxes": boxes.numpy(), "scores": scores.numpy()}
        for found in (session.run(None, fed)[0], compiled(fed)[0]):
            np.testing.assert_allclose(found, expected, atol=1e-6, rtol=0)


def test_classes_are_kept_apart_and_the_best_come_first() -> None:
    boxes, scores = drawn(1, 80)
    labels = torch.arange(80).unsqueeze(0) % 3
    settings = {"type": "soft_nms", "iou_threshold": 0.5, "method": "gaussian"}
    found = suppress(Candidates(boxes, scores, labels), suppression({"nms": settings}, KEEP))
    rows = (scores[0] > 0).nonzero().squeeze(1)
    dets, picked = mmcv.ops.batched_nms(
        boxes[0, rows], scores[0, rows], labels[0, rows], dict(settings)
    )
    assert torch.allclose(found.boxes[0], dets[:KEEP, :4])
    assert torch.allclose(found.scores[0], dets[:KEEP, 4], atol=1e-6)
    assert torch.equal(found.labels[0], labels[0, rows][picked[:KEEP]])


def test_a_method_that_mmcv_has_not_is_refused() -> None:
    with pytest.raises(ValueError, match="soft_nms by 'cubic'"):
        suppression({"nms": {"type": "soft_nms", "method": "cubic"}}, 100)
