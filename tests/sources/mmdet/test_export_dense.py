"""Dense heads: mmdet's own export is not its test path, ours is; and each of their rules alone."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
import torch
import yaml
from torch import Tensor, nn

from farm.sources.mmdet import compat, config  # noqa: F401

# isort: split
from mmcv.ops.merge_cells import SumCell
from mmcv.utils import ConfigDict
from mmdet.core.bbox import coder as coders
from mmdet.core.utils import filter_scores_and_topk
from mmdet.models import build_head

from farm import specs
from farm.detections import Detections
from farm.detections.convert import from_outputs
from farm.detections.suppress import suppress
from farm.models import families
from farm.plan.content.configs import config_file
from farm.runtimes import torch as torch_runtime
from farm.sources import mmdet as source
from farm.sources.mmdet import dense, graphs, patches, random_weights
from farm.sources.mmdet.candidates import Candidates
from farm.sources.mmdet.dense import anchors, heads
from farm.sources.mmdet.dense import coders as our_coders
from farm.sources.mmdet.dense.pairs import best_of_level
from farm.specs import Dims

pytestmark = pytest.mark.slow
torch.set_num_threads(1)  # with more, OpenMP's spinning makes a busy machine 80 times slower

NARROW = """
model.backbone.depth: 18
model.backbone.base_channels: 16
model.neck.in_channels: [16, 32, 64, 128]
model.neck.out_channels: 32
model.bbox_head.in_channels: 32
model.bbox_head.feat_channels: 32
model.bbox_head.stacked_convs: 1
model.bbox_head.num_classes: 5
data.test.classes: [a, b, c, d, e]
"""
FCOS = "fcos/fcos_r50_caffe_fpn_gn-head_4x4_1x_coco.py"
CONFIGS: dict[str, tuple[str, dict[str, list[float]]]] = {
    "fcos": (FCOS, {"conv_cls": [-2, 0.7], "conv_reg": [3, 0.3], "conv_centerness": [0, 3]}),
    "atss": (
        "atss/atss_r50_fpn_1x_coco.py",
        {"atss_cls": [-3, 1.2], "atss_reg": [0, 1], "atss_centerness": [0, 2]},
    ),
    "paa": (
        "paa/paa_r50_fpn_1x_coco.py",
        {"atss_cls": [-3, 1.2], "atss_reg": [0, 1], "atss_centerness": [0, 1]},
    ),
    "retinanet": (
        "retinanet/retinanet_r50_fpn_1x_coco.py",
        {"retina_cls": [-4, 1.5], "retina_reg": [0, 0.3]},
    ),
}


class Narrow:
    """A narrow model of random weights, loaded; `options` are of its test_cfg, with __ for dots."""

    def __init__(self, name: str, folder: Path, **options: Any) -> None:
        file, layer_outputs = CONFIGS[name]
        more = {"model.test_cfg." + key.replace("__", "."): one for key, one in options.items()}
        entry = {"config": file, "layer_outputs": layer_outputs, "shape": "128x160"}
        entry["options"] = yaml.safe_load(NARROW) | more
        path = folder / "family.yaml"
        path.write_text(yaml.safe_dump({name: entry}))
        self.family = family = families.read(path)[name]
        model = family.model(str(folder / "model.pth"))
        random_weights.write(model, family.layer_outputs, family.shape, family.seed)
        self.detector = source.load(model)

    def images(self) -> npt.NDArray[np.float32]:
        return random_weights.noise(self.family.shape, 1)

    def expected(self) -> Detections:
        return self.detector.reference_as_graph(self.images()[0])


def noise(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def run_file(content: bytes, **feed: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, feed))


def top(scores: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The 50 best."""
    return np.sort(scores)[::-1][:50]


def eager(model: Narrow) -> Detections:
    """The first image's detections by our graph, in PyTorch."""
    session = torch_runtime.TorchAdapter().open_module(model.detector.graph(), threads=1)
    return from_outputs(session.run(model.images()))[0]


# mmdet's own export ---------------------------------------------------------------------------


class Naive(nn.Module):
    """The model as MMDetection's `pytorch2onnx.py` exports it."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Any:
        return self.model.onnx_export(images, [{}])


def naive_scores(model: Narrow, images: npt.NDArray[Any]) -> npt.NDArray[Any]:
    file = io.BytesIO()
    with torch.no_grad():
        torch.onnx.export(
            Naive(model.detector.model), (torch.from_numpy(images),), file, dynamo=False,
            autograd_inlining=False, opset_version=11, input_names=["images"],
        )  # fmt: skip
    return np.asarray(run_file(file.getvalue(), images=images)[0][0, :, 4])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["fcos", "atss"])
def test_mmdets_own_export_chooses_by_the_product_of_score_and_centreness(
    name: str, tmp_path: Path
) -> None:
    model = Narrow(name, tmp_path, nms_pre=100)
    images = model.images()
    expected = top(model.expected().scores)
    assert np.abs(expected - top(naive_scores(model, images))).max() > 1e-3

    path = tmp_path / "ours.onnx"
    source.export_onnx(model.detector, model.family.profile("fixed"), 11, path)
    ours = run_file(path.read_bytes(), images=images)[0][0, :, 4]
    assert np.abs(expected - top(ours)).max() < 1e-4


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["fcos", "atss"])
def test_mmdets_own_export_is_its_test_path_where_nothing_is_chosen(
    name: str, tmp_path: Path
) -> None:
    """So that choice, of the best `nms_pre` and by `score_thr`, is all that differs."""
    model = Narrow(name, tmp_path, nms_pre=100_000, score_thr=0.0)
    images = model.images()
    expected = top(model.expected().scores)
    assert np.abs(expected - top(naive_scores(model, images))).max() < 1e-4


# The settings of a test -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"nms_pre": -1},
        {"nms_pre": 30},
        {"score_thr": 0.4},
        {"max_per_img": 7},
        {"nms__iou_threshold": 0.2, "nms__class_agnostic": True},
    ],
)
def test_cfg_options_of_a_test_are_honoured(options: dict[str, Any], tmp_path: Path) -> None:
    model = Narrow("retinanet", tmp_path, **options)
    expected, found = model.expected(), eager(model)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    assert len(found) > 5


class Head:
    """What `levels.best` reads of a head."""

    def __init__(self, classes: int, sigmoid: bool, nms_pre: int) -> None:
        self.num_classes, self.use_sigmoid_cls = classes, sigmoid
        self.cls_out_channels = classes + (not sigmoid)
        self.test_cfg = ConfigDict(nms_pre=nms_pre, score_thr=0.3, max_per_img=100)


@pytest.mark.parametrize("sigmoid", [True, False])
@pytest.mark.parametrize("nms_pre", [-1, -3, 5, 10_000])
def test_pairs_of_a_level_are_mmdets(nms_pre: int, sigmoid: bool) -> None:
    """With -1, too: mmdet then takes all but the lowest."""
    head = Head(4, sigmoid, nms_pre)
    logits = noise(2, 3 * head.cls_out_channels, 5, 6) * 2
    found = best_of_level(head, logits)
    flat = logits.permute(0, 2, 3, 1).reshape(2, -1, head.cls_out_channels)
    scores = flat.sigmoid() if sigmoid else flat.softmax(-1)[..., :-1]
    for i in range(2):
        expected = filter_scores_and_topk(scores[i], 0.3, nms_pre)
        kept = found.scores[i] > 0
        torch.testing.assert_close(found.scores[i][kept], expected[0])
        assert found.label[i][kept].tolist() == expected[1].tolist()
        assert found.prior[i][kept].tolist() == expected[2].tolist()


def test_pairs_of_a_level_where_only_one_or_none_passes() -> None:
    head = Head(4, True, -1)
    logits = torch.full((1, 4, 2, 2), -9.0)
    assert not best_of_level(head, logits).scores.any()
    logits[0, 2, 1, 0] = 3  # the lowest of one: mmdet drops it
    assert not best_of_level(head, logits).scores.any()


@pytest.mark.parametrize("options", [{"nms_pre": 0}, {"max_per_img": -1}])
def test_limits_that_mmdet_takes_for_slices_are_refused(
    options: dict[str, int], tmp_path: Path
) -> None:
    refused = Narrow("retinanet", tmp_path, **options).detector.facts.refused
    assert next(iter(options)) in str(refused)


# Rules of their own ---------------------------------------------------------------------------


@pytest.mark.parametrize("clips", [True, False])
@pytest.mark.parametrize(
    "coder",
    [
        coders.DeltaXYWHBBoxCoder(target_stds=(0.1, 0.1, 0.2, 0.2)),
        coders.DeltaXYWHBBoxCoder(add_ctr_clamp=True, ctr_clamp=5),
        coders.LegacyDeltaXYWHBBoxCoder(target_means=(0.1, 0, 0, 0.2)),
        coders.TBLRBBoxCoder(normalizer=2.0),
        coders.TBLRBBoxCoder(normalizer=[1.0, 2.0, 3.0, 4.0]),
        coders.DistancePointBBoxCoder(),
    ],
    ids=lambda coder: type(coder).__name__,
)
def test_boxes_are_decoded_as_mmdet_does(coder: Any, clips: bool) -> None:
    if hasattr(coder, "clip_border"):
        coder.clip_border = clips
    points = noise(2, 50, 2).abs() * 60
    priors = torch.cat([points, points + noise(2, 50, 2, seed=1).abs() * 40], -1)
    priors = points if isinstance(coder, coders.DistancePointBBoxCoder) else priors
    deltas = noise(2, 50, 4, seed=2).abs() * 3
    found = our_coders.decode(coder, priors, deltas, torch.tensor([96.0, 64.0, 96.0, 64.0]))
    for i in range(2):
        expected = coder.decode(priors[i], deltas[i], max_shape=(64, 96))
        torch.testing.assert_close(found[i], expected)


def test_yolox_takes_the_first_of_classes_that_round_to_one() -> None:
    class YoloxHead:
        cls_out_channels = 3
        test_cfg = ConfigDict(score_thr=0.01)
        prior_generator = SimpleNamespace(
            grid_priors=lambda sizes, device, with_stride: [torch.ones(1, 4)]
        )

        def _bbox_decode(self, priors: Tensor, deltas: Tensor) -> Tensor:
            return deltas

    logits = torch.tensor([1.0, 30.0, 40.0]).view(1, 3, 1, 1)
    assert logits.sigmoid().flatten().argmax() == 1, "both round to 1, and mmdet takes the first"
    outs = ([logits], [torch.ones(1, 4, 1, 1)], [torch.ones(1, 1, 1, 1)])
    assert heads.yolox(YoloxHead(), outs, torch.ones(4)).labels.item() == 1


def paa_head(**options: Any) -> Any:
    head = {
        "type": "PAAHead", "num_classes": 3, "in_channels": 32, "stacked_convs": 1,
        "score_voting": True,
        "anchor_generator": {
            "type": "AnchorGenerator", "ratios": [1.0], "octave_base_scale": 8,
            "scales_per_octave": 1, "strides": [8],
        },
        "test_cfg": ConfigDict(score_thr=0.05),
    }  # fmt: skip
    return build_head(head | options)


def test_boxes_are_voted_as_mmdet_does() -> None:
    corner = noise(40, 2).abs() * 4
    boxes = torch.cat([corner, corner + 20 + noise(40, 2, seed=1).abs() * 4], 1)
    scores = noise(40, 3, seed=2).sigmoid()
    scores[:, 2] *= 0.01  # nobody votes there
    scores = torch.where(scores > 0.05, scores, torch.zeros_like(scores))
    label = torch.tensor([0, 1, 1, 0])
    kept = Candidates(boxes[None, :4], scores[range(4), label][None], label[None])
    head = paa_head()
    best, argbest = scores.max(1)
    voters = anchors.Voters(boxes[None], best[None], argbest[None], boxes[None], scores[None])
    found = anchors.voted(head, voters, kept)
    dets = torch.cat([kept.boxes[0], kept.scores[0][:, None]], 1)
    padded = torch.cat([scores, torch.zeros(40, 1)], 1)
    expected, order = head.score_voting(dets, label, boxes, padded, 0.05)
    by_class = torch.cat([(label == c).nonzero()[:, 0] for c in range(3)])
    assert label[by_class].tolist() == order.tolist()
    torch.testing.assert_close(found.boxes[0][by_class], expected[:, :4])
    assert (found.boxes - kept.boxes).abs().max() > 1, "voting moves boxes"
    still = anchors.voted(paa_head(score_voting=False), voters, kept)
    torch.testing.assert_close(still.boxes, kept.boxes)


def test_a_box_without_area_stays_where_it_is() -> None:
    flat = torch.tensor([[[5.0, 5, 5, 9]]])
    kept = Candidates(flat, torch.ones(1, 1), torch.zeros(1, 1, dtype=torch.long))
    voters = anchors.Voters(flat, kept.scores, kept.labels, flat, torch.ones(1, 1, 3))
    assert anchors.voted(paa_head(), voters, kept).boxes.tolist() == flat.tolist()


def test_a_detector_that_votes_cannot_be_cut_before_its_suppression(tmp_path: Path) -> None:
    facts = Narrow("paa", tmp_path).detector.facts
    assert facts.refused is None and "cannot run on the host" in str(facts.host_refused)


@pytest.mark.parametrize("method", ["linear", "gaussian"])
def test_soft_nms_on_the_host_is_that_in_the_graph(tmp_path: Path, method: str) -> None:
    nms = {"type": "soft_nms", "iou_threshold": 0.4, "method": method, "_delete_": True}
    detector = Narrow("retinanet", tmp_path, nms=nms).detector
    how = detector.facts.suppression
    assert how is not None and how.decay is not None and how.decay.method == method
    images = random_weights.noise(Dims(2, 3, 128, 160), 5)

    def run(ends_at: str) -> dict[str, npt.NDArray[Any]]:
        return (
            torch_runtime.TorchAdapter().open_module(detector.graph(ends_at), threads=1).run(images)
        )

    whole, cut = run("graph"), suppress(run("host"), how)
    counted = whole["dets"][..., 4] > 0.05
    assert counted.sum() > 40
    np.testing.assert_array_equal(cut["labels"][counted], whole["labels"][counted])
    np.testing.assert_allclose(cut["dets"][counted], whole["dets"][counted], atol=1e-5)


class Merged(nn.Module):
    """Two levels of a pyramid, 4 to 1, summed at the coarser one's size."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = SumCell(4, 4).requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        coarse = nn.functional.max_pool2d(images, 4, ceil_mode=True)
        return torch.as_tensor(self.cell(images, coarse, coarse.shape[-2:]))


def merged_file(module: nn.Module, opset: int) -> bytes:
    file = io.BytesIO()
    axes = {"images": {2: "height", 3: "width"}}
    torch.onnx.export(
        module, (noise(1, 4, 16, 24),), file, dynamo=False, opset_version=opset,
        input_names=["images"], dynamic_axes=axes,
    )  # fmt: skip
    return file.getvalue()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("opset", [11, 17])
def test_nas_fpn_pools_at_other_sizes_than_the_traced_one(opset: int) -> None:
    module = Merged().eval()
    with patches.standard(opset):
        content = merged_file(module, opset)
    for size in ((16, 24), (24, 16), (32, 40)):
        images = noise(1, 4, *size, seed=1)
        found = run_file(content, images=images.numpy())[0]
        np.testing.assert_allclose(found, module(images).numpy(), atol=1e-5)
    with pytest.raises(Exception, match="Add"):  # mmcv would pad 18 rows; they do not fit
        run_file(content, images=noise(1, 4, 18, 24).numpy())


@pytest.mark.filterwarnings("ignore")
def test_torch_itself_cannot_write_nas_fpns_pooling() -> None:
    with pytest.raises(Exception, match="Failed to export"):
        merged_file(Merged().eval(), 17)


@pytest.mark.parametrize(
    "file", ["ld/ld_r18_gflv1_r101_fpn_coco_1x.py", "lad/lad_r50_paa_r101_fpn_coco_1x.py"]
)
def test_distilled_detectors_are_built_without_their_teacher(file: str) -> None:
    """mmdet would look for the teacher's config in its own sources, and download its weights."""
    model = specs.Model("m", "mmdet", config_file(file, Path()), specs.File("", ""))
    detector = config.build(config.read(model), file)
    assert not hasattr(detector, "teacher_model")
    assert graphs.graph(detector).outputs == ("dets", "labels")


def test_rpn_is_refused_as_it_names_no_classes() -> None:
    file = config_file("rpn/rpn_r50_fpn_1x_coco.py", Path())
    model = specs.Model("m", "mmdet", file, specs.File("", ""))
    with pytest.raises(ValueError, match="RPN proposes regions of no class"):
        graphs.graph(config.build(config.read(model), ""))


def test_a_head_with_a_rule_of_its_own_is_refused() -> None:
    kind = type(paa_head())
    own = type("OwnHead", (kind,), {"score_voting": lambda self: None})
    head = paa_head()
    head.__class__ = own
    with pytest.raises(ValueError, match="head OwnHead has its own score_voting"):
        dense.reader(head)
