"""mmdet as a source: the same detections from mmdet, our graph, ONNX Runtime and OpenVINO."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import openvino
import pytest
import torch

from farm import inputs
from farm.detections import Detections
from farm.errors import InputError, StepFailed
from farm.sources import mmdet as source
from farm.sources.mmdet import compat, config  # noqa: F401
from farm.units import Dims, parse_dims

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
SHARED = Path(os.environ.get("FARM_SHARED", ROOT.parent / "shared"))
needs_shared = pytest.mark.skipif(
    not (SHARED / "checkpoints").is_dir(),
    reason=f"no trained checkpoint: {SHARED} is missing; set FARM_SHARED",
)
CLASSES = tuple("abcde")
torch.set_num_threads(1)  # with more, OpenMP's spinning makes a busy machine 80 times slower
THRESHOLD = 0.3


def mim(name: str) -> str:
    import mmdet

    return str(Path(mmdet.__file__).parent / ".mim" / "configs" / name)


def shape(opt: str, low: str | None = None, high: str | None = None) -> inputs.Shape:
    return inputs.Shape("s", parse_dims(low or opt), parse_dims(opt), parse_dims(high or opt))


def model_of(name: str, checkpoint: Path, options: dict[str, Any], **more: Any) -> inputs.Model:
    files = inputs.File(mim(name), ""), inputs.File(str(checkpoint), "")
    return inputs.Model("m", "mmdet", *files, cfg_options=tuple(options.items()), **more)


# Small models from mmdet's own configs ------------------------------------------------------


@dataclass(frozen=True)
class Family:
    """A config of mmdet made narrow, the sizes it is tried at, and what its outputs become.

    lifted: for each layer that predicts (a part of its name) the wanted mean and spread of what
    it puts out, so that random weights find objects of every class.
    """

    config: str
    options: dict[str, Any]
    lifted: dict[str, tuple[float, float]]
    size: str = "128x160"
    other: str = "192x128"
    opsets: tuple[int, ...] = (11, 17)


RESNET = {
    "model.backbone.depth": 18,
    "model.backbone.base_channels": 16,
    "model.neck.in_channels": [16, 32, 64, 128],
    "model.neck.out_channels": 32,
    "data.test.classes": CLASSES,
}
RPN = {"model.rpn_head.in_channels": 32, "model.rpn_head.feat_channels": 32}
ROI = {
    "model.roi_head.bbox_roi_extractor.out_channels": 32,
    "model.roi_head.bbox_head.in_channels": 32,
    "model.roi_head.bbox_head.fc_out_channels": 64,
    "model.roi_head.bbox_head.num_classes": 5,
    "model.test_cfg.rpn.max_per_img": 300,
    # Below opset 16 ONNX's RoiAlign widens boxes narrower than one feature pixel (4 of ours).
    "model.test_cfg.rpn.min_bbox_size": 4,
}
MASK = {
    "model.roi_head.mask_roi_extractor.out_channels": 32,
    "model.roi_head.mask_head.in_channels": 32,
    "model.roi_head.mask_head.conv_out_channels": 16,
    "model.roi_head.mask_head.num_classes": 5,
}
ROI_LIFT = {"rpn_cls": (-2, 2), "rpn_reg": (0, 0.3), "fc_cls": (0, 2), "fc_reg": (0, 1)}

FAMILIES = {
    "retinanet": Family(
        "retinanet/retinanet_r50_fpn_1x_coco.py",
        RESNET
        | {
            "model.bbox_head.in_channels": 32,
            "model.bbox_head.feat_channels": 32,
            "model.bbox_head.stacked_convs": 1,
            "model.bbox_head.num_classes": 5,
        },
        {"retina_cls": (-4, 1.5), "retina_reg": (0, 0.3)},
        opsets=(11, 13, 17, 20),
    ),
    "ssd": Family(
        "ssd/ssd300_coco.py",
        {
            "model.backbone.depth": 11,
            "model.backbone.out_feature_indices": (14, 24),
            "model.bbox_head.num_classes": 5,
            "data.test.classes": CLASSES,
        },
        {"cls_convs": (0, 1.5), "reg_convs": (0, 1)},
        size="300x300",
        other="332x300",
    ),
    "yolov3": Family(
        "yolo/yolov3_d53_mstrain-608_273e_coco.py",
        {
            "model.backbone.depth": 1,
            "model.neck.in_channels": [256, 128, 64],
            "model.neck.out_channels": [128, 64, 32],
            "model.bbox_head.in_channels": [128, 64, 32],
            "model.bbox_head.out_channels": [128, 64, 32],
            "model.bbox_head.num_classes": 5,
            "data.test.classes": CLASSES,
        },
        {"convs_pred": (-1.5, 1.2)},
    ),
    "yolox": Family(
        "yolox/yolox_nano_8x8_300e_coco.py",
        {"model.bbox_head.num_classes": 5, "data.test.classes": CLASSES},
        {"conv_cls": (-1, 2), "conv_obj": (-1, 2), "conv_reg": (0.5, 0.3)},
    ),
    "faster_rcnn": Family(
        "faster_rcnn/faster_rcnn_r50_fpn_1x_coco.py",
        RESNET | RPN | ROI,
        ROI_LIFT,
    ),
    "mask_rcnn": Family(
        "mask_rcnn/mask_rcnn_r50_fpn_1x_coco.py",
        RESNET | RPN | ROI | MASK,
        ROI_LIFT | {"conv_logits": (0, 2)},
        opsets=(11, 13, 17, 20),
    ),
}


def noise(dims: Dims, seed: int) -> np.ndarray:
    """Images [N, 3, H, W] with structure at several scales, around 0."""
    random = torch.Generator().manual_seed(seed)
    image = torch.zeros(dims.as_tuple())
    for cell in (1, 8, 32):
        grid = torch.randn(dims.n, 3, dims.h // cell + 1, dims.w // cell + 1, generator=random)
        image += torch.nn.functional.interpolate(grid, size=(dims.h, dims.w), mode="bilinear")
    return image.numpy()


def lift(module: torch.nn.Module, mean: float, spread: float) -> Any:
    """On its first call, `module` is scaled: each output channel gets this mean and spread."""

    def hook(_: Any, __: Any, out: torch.Tensor) -> torch.Tensor:
        flat = out.transpose(0, 1).flatten(1)
        if flat.shape[1] < 2:  # SSD's last level has a single place: no spread to speak of
            return out
        factor = spread / flat.std(1).clamp(min=1e-6)
        shift = mean - flat.mean(1) * factor
        axes = (-1,) + (1,) * (module.weight.dim() - 1)
        module.weight.data *= factor.view(axes)
        module.bias.data = module.bias.data * factor + shift
        handle.remove()
        spatial = (1, -1) + (1,) * (out.dim() - 2)
        return out * factor.view(spatial) + shift.view(spatial)

    handle = module.register_forward_hook(hook)
    return handle


def make_checkpoint(family: Family, folder: Path) -> inputs.Model:
    from mmdet.models.backbones import Darknet

    channels = ((32, 32), (32, 32), (32, 64), (64, 128), (128, 256))
    Darknet.arch_settings[1] = ((1, 1, 1, 1, 1), channels)
    path = folder / "model.pth"
    model = model_of(family.config, path, family.options)
    torch.manual_seed(1)
    detector = config.build(config.read(model), "")
    if hasattr(detector.neck, "l2_norm"):  # SSD's: mmdet leaves it uninitialised
        detector.neck.l2_norm.weight.data.fill_(20)
    for name, module in detector.named_modules():
        for part, (mean, spread) in family.lifted.items():
            if part in name and isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
                lift(module, mean, spread)
    image = torch.from_numpy(noise(parse_dims(family.size), 0))
    with torch.no_grad():
        detector.forward_dummy(image) if not hasattr(detector, "roi_head") else _run(
            detector, image
        )
    state = detector.state_dict()
    torch.save({"state_dict": state, "meta": {"CLASSES": CLASSES, "epoch": 1}}, path)
    return model


def _run(detector: Any, image: torch.Tensor) -> None:
    size = (*image.shape[2:], 3)
    meta = {"img_shape": size, "ori_shape": size, "scale_factor": np.ones(4, np.float32)}
    detector.simple_test(image, [meta], rescale=False)


@dataclass
class Made:
    family: Family
    model: inputs.Model
    detector: Any
    folder: Path

    seen: dict[tuple[str, int], Detections]

    def reference(self, dims: str, index: int) -> Detections:
        """Of one image of `noise(dims, 0)`; asked for many times, computed once."""
        if (dims, index) not in self.seen:
            image = noise(parse_dims(dims), 0)[index]
            self.seen[dims, index] = self.detector.reference_as_graph(image)
        return self.seen[dims, index]

    def export(self, opset: int, dynamic: bool) -> Path:
        low, high = ("1x3x128x128", "2x3x512x512") if dynamic else (None, None)
        profile = shape(self.family.size, low, high)
        path = self.folder / f"{opset}-{dynamic}.onnx"
        source.export_onnx(self.detector, profile, opset, path)
        return path


@pytest.fixture(scope="module", params=list(FAMILIES))
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp(request.param)
    family = FAMILIES[request.param]
    model = make_checkpoint(family, folder)
    return Made(family, model, source.load(model), folder, {})


# Comparing ----------------------------------------------------------------------------------

Run = Callable[[np.ndarray], list[np.ndarray]]


def onnxruntime_of(path: Path) -> Run:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images})


def openvino_of(path: Path) -> Run:
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    return lambda images: [compiled([images])[i] for i in range(len(compiled.outputs))]


def torch_of(graph: torch.nn.Module) -> Run:
    def run(images: np.ndarray) -> list[np.ndarray]:
        with torch.no_grad():
            return [out.numpy() for out in graph(torch.from_numpy(images))]

    return run


def rows_of(outputs: list[np.ndarray], image: int) -> Detections:
    dets, labels = outputs[0][image], outputs[1][image]
    kept = labels >= 0
    assert (dets[~kept, 4] == 0).all()
    assert (np.diff(dets[:, 4]) <= 0).all(), "best first"
    masks = outputs[2][image][kept] if len(outputs) > 2 else None
    return Detections(dets[kept, :4], dets[kept, 4], labels[kept], masks)


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[A, B]; 1 as well for boxes clipped to no area whose corners lie in the same place."""
    low, high = (
        np.maximum(a[:, None, :2], b[None, :, :2]),
        np.minimum(a[:, None, 2:], b[None, :, 2:]),
    )
    both = (high - low).clip(0).prod(2)
    area = [(x[:, 2:] - x[:, :2]).prod(1) for x in (a, b)]
    same = np.abs(a[:, None] - b[None]).max(2) < 0.01
    return np.maximum(both / (area[0][:, None] + area[1][None] - both).clip(1e-9), same)


def assert_same(expected: Detections, found: Detections, what: str) -> None:
    """Each box over the threshold has its own partner in the other set, both ways round."""
    for a, b in ((expected, found), (found, expected)):
        sure = np.flatnonzero(a.scores > THRESHOLD)
        overlap = iou(a.boxes[sure], b.boxes) * (a.labels[sure, None] == b.labels[None])
        lost = (overlap.max(1, initial=0) < 0.99).sum()
        assert not lost, f"{what}: {lost} of {len(sure)} lost"
        partner = overlap.argmax(1)
        assert len(set(partner)) == len(sure), f"{what}: two boxes share a partner"
        score_diff = np.abs(a.scores[sure] - b.scores[partner]).max()
        box_diff = np.abs(a.boxes[sure] - b.boxes[partner]).max()
        assert score_diff <= 1e-3, f"{what}: scores differ by {score_diff}"
        mask_diff = 0.0
        if a.masks is not None:
            wide = (a.boxes[sure, 2:] - a.boxes[sure, :2] > 8).all(1)  # see min_bbox_size
            mask_diff = np.abs(a.masks[sure] - b.masks[partner])[wide].max()
            assert mask_diff <= 1e-3, f"{what}: masks differ by {mask_diff}"
    print(
        f"{what}: {len(sure)} boxes, score {score_diff:.1e} box {box_diff:.1e} mask {mask_diff:.1e}"
    )


def assert_as_reference(made: Made, run: Run, size: str, what: str) -> None:
    images = noise(parse_dims(size), 0)
    outputs = run(images)
    for i in range(len(images)):
        assert_same(
            made.reference(size, i), rows_of(outputs, i), f"{made.folder.name} {what} {size}"
        )


# The graph and its files --------------------------------------------------------------------


def test_random_model_finds_boxes_of_several_classes(made: Made) -> None:
    found = made.reference(made.family.size, 0)
    sure = found.labels[found.scores > THRESHOLD]
    print(made.folder.name, len(sure), np.bincount(sure, minlength=5), found.scores[:5])
    assert made.detector.facts.refused is None
    assert len(sure) >= 20 and len(set(sure.tolist())) >= 3


def test_graph_in_torch_finds_what_mmdet_finds(made: Made) -> None:
    run = torch_of(made.detector.graph())
    assert_as_reference(made, run, f"2x3x{made.family.size}", "torch")
    assert_as_reference(made, run, made.family.other, "torch")


def test_file_with_dynamic_axes_finds_what_mmdet_finds(made: Made) -> None:
    for opset in made.family.opsets:
        path = made.export(opset, dynamic=True)
        for runtime in (onnxruntime_of, openvino_of)[: 1 + (opset == 17)]:
            run, name = runtime(path), runtime.__name__
            for size in (f"2x3x{made.family.size}", made.family.other):
                assert_as_reference(made, run, size, f"{name} opset {opset}")


def test_file_with_fixed_shape_finds_what_mmdet_finds(made: Made) -> None:
    path = made.export(17, dynamic=False)
    assert_as_reference(made, onnxruntime_of(path), made.family.size, "onnxruntime fixed")


# The trained YOLOX-Nano ---------------------------------------------------------------------


def nano(**more: Any) -> inputs.Model:
    checkpoint = SHARED / "checkpoints" / "yolox_nano_8x8_300e_coco.pth"
    return model_of("yolox/yolox_nano_8x8_300e_coco.py", checkpoint, {}, **more)


@needs_shared
def test_trained_yolox_has_its_published_ap_on_coco_mini() -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    folder = SHARED / "coco-mini"
    coco = COCO(str(folder / "instances_val2017.json"))
    detector = source.load(nano())
    prepare = source.Preparer(detector.facts.pipeline, shape("416x416"))
    categories, results = coco.getCatIds(), []
    for info in coco.imgs.values():
        name = info["file_name"]
        image, meta = prepare(str(folder / "val2017" / name), info["id"], name)
        found = detector.reference(image, meta)
        sides = np.concatenate([found.boxes[:, :2], found.boxes[:, 2:] - found.boxes[:, :2]], 1)
        results += [
            {"image_id": meta.image_id, "category_id": categories[k], "bbox": b, "score": s}
            for b, s, k in zip(sides.tolist(), found.scores.tolist(), found.labels, strict=True)
        ]
    evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(0.3062, abs=0.0005)


@needs_shared
def test_prepared_yolox_images_are_those_of_mmdets_own_pipeline() -> None:
    from mmdet.datasets.pipelines import Compose

    model = nano()
    own = Compose(config.test_pipeline(config.read(model), ""))
    pipeline = source.check(model).pipeline
    fixed = source.Preparer(pipeline, shape("416x416"))
    dynamic = source.Preparer(pipeline, shape("416x416", "320x320", "640x640"))
    for path in sorted((SHARED / "coco-mini" / "val2017").iterdir())[:6]:
        results = own({"img_info": {"filename": str(path)}, "img_prefix": None})
        expected, info = results["img"][0].data.numpy(), results["img_metas"][0].data
        for prepare in (fixed, dynamic):
            image, meta = prepare(str(path), 1, path.name)
            np.testing.assert_array_equal(image, expected)
            assert (meta.valid_h, meta.valid_w) == info["img_shape"][:2]
            assert (meta.original_h, meta.original_w) == info["ori_shape"][:2]
            np.testing.assert_allclose([meta.scale_x, meta.scale_y], info["scale_factor"][:2])


# Preparing ----------------------------------------------------------------------------------


@pytest.fixture
def picture(tmp_path: Path) -> Callable[[int, int], str]:
    import cv2

    def write(height: int, width: int) -> str:
        path = tmp_path / f"{height}x{width}.png"
        pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        cv2.imwrite(str(path), pixels)
        return str(path)

    return write


def pipeline_of(name: str) -> str:
    from farm.sources.mmdet import pipeline

    settings = config.read(model_of(name, Path("none"), {}))
    return pipeline.canonical(config.test_pipeline(settings, ""))


@pytest.mark.parametrize("size", [(60, 120), (120, 60), (30, 30), (40, 160), (33, 167)])
def test_fixed_shape_letterboxes_every_image(
    picture: Callable[[int, int], str], size: tuple[int, int]
) -> None:
    prepare = source.Preparer(
        pipeline_of("retinanet/retinanet_r50_fpn_1x_coco.py"), shape("80x160")
    )
    image, meta = prepare(picture(*size), 7, "x.png")
    assert image.shape == (3, 80, 160) and image.dtype == np.float32
    scale = min(80 / size[0], 160 / size[1])
    assert (meta.valid_h, meta.valid_w) == (round(size[0] * scale), round(size[1] * scale))
    assert meta.scale_x == pytest.approx(meta.valid_w / size[1])
    assert (image[:, meta.valid_h :] == 0).all() and (image[:, :, meta.valid_w :] == 0).all()


def test_pipeline_without_keep_ratio_fills_the_shape(picture: Callable[[int, int], str]) -> None:
    prepare = source.Preparer(pipeline_of("ssd/ssd300_coco.py"), shape("96x128"))
    image, meta = prepare(picture(50, 40), 7, "x.png")
    assert image.shape == (3, 96, 128)
    assert (meta.scale_x, meta.scale_y) == (pytest.approx(128 / 40), pytest.approx(96 / 50))


def test_dynamic_size_outside_the_bounds_is_refused(picture: Callable[[int, int], str]) -> None:
    pipeline = pipeline_of("retinanet/retinanet_r50_fpn_1x_coco.py")
    prepare = source.Preparer(pipeline, shape("64x128", "64x64", "128x128"))
    image, _ = prepare(picture(50, 100), 7, "x.png")
    assert image.shape == (3, 64, 128)
    with pytest.raises(StepFailed, match=r"x.png.*32x128.*64x64 to 128x128"):
        prepare(picture(20, 100), 7, "x.png")


@pytest.mark.parametrize(
    "options",
    [
        {"data.test.pipeline.1.flip": True},
        {"data.test.pipeline.1.img_scale": [(1333, 800), (666, 400)]},
    ],
)
def test_pipeline_with_flips_or_two_scales_is_refused(options: dict[str, Any]) -> None:
    model = model_of("retinanet/retinanet_r50_fpn_1x_coco.py", Path("none"), options)
    with pytest.raises(StepFailed, match="no flip"):
        source.check(model)


# What is refused ----------------------------------------------------------------------------

TINY = "yolox/yolox_nano_8x8_300e_coco.py"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "model.pth"
    detector = config.build(config.read(model_of(TINY, path, {})), "")
    torch.save({"state_dict": detector.state_dict(), "meta": {}}, path)
    return path


def test_missing_config_and_checkpoint_are_named(tmp_path: Path) -> None:
    gone = model_of("yolox/none.py", tmp_path / "none.pth", {})
    with pytest.raises(InputError, match=r"none.py: no such config"):
        source.check(gone)
    with pytest.raises(InputError, match=r"none.pth: no such checkpoint"):
        source.check(replace(gone, config=inputs.File(mim(TINY), "")))


# mmcv closes its temporary copy of a broken config after its folder is gone.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_config_that_does_not_parse_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("model = dict(")
    model = replace(model_of(TINY, tmp_path, {}), config=inputs.File(str(path), ""))
    with pytest.raises(InputError, match=r"broken.py: not a config"):
        source.check(model)
    path.write_text("data = dict()")
    with pytest.raises(InputError, match=r"no `model`"):
        source.check(model)


@pytest.mark.parametrize("kept", [0, 100, 0.5])
def test_torn_checkpoint_is_refused(tmp_path: Path, whole: Path, kept: float) -> None:
    path, content = tmp_path / "torn.pth", whole.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with pytest.raises(InputError, match=r"torn.pth: the checkpoint is (torn|empty)"):
        source.check(model_of(TINY, path, {}))


def test_checkpoint_of_other_classes_is_refused(whole: Path) -> None:
    options = {"model.bbox_head.num_classes": 3}
    with pytest.raises(InputError, match=r"number of classes.*conv_cls.0.weight is 80x64x1x1"):
        source.check(model_of(TINY, whole, options))


def test_checkpoint_of_another_model_is_refused(whole: Path) -> None:
    with pytest.raises(InputError, match=r"missing backbone\..*unexpected backbone\."):
        source.check(model_of("retinanet/retinanet_r50_fpn_1x_coco.py", whole, {}))


def test_pickled_objects_need_permission(tmp_path: Path, whole: Path) -> None:
    path = tmp_path / "pickled.pth"
    content = torch.load(whole, weights_only=True)
    torch.save(content | {"hook": Path("x")}, path)
    model = model_of(TINY, path, {})
    with pytest.raises(InputError, match="allow_pickle: true"):
        source.check(model)
    assert len(source.check(replace(model, allow_pickle=True)).classes) == 80


def test_bare_state_dict_of_parallel_training_fits(tmp_path: Path, whole: Path) -> None:
    state = torch.load(whole, weights_only=True)["state_dict"]
    copies = {"ema_" + key.replace(".", "_"): value for key, value in state.items()}
    torch.save(
        {f"module.{key}": value for key, value in (state | copies).items()}, tmp_path / "b.pth"
    )
    facts = source.check(model_of(TINY, tmp_path / "b.pth", {}))
    assert facts.refused is None and facts.classes[0] == "person" and not facts.clips_boxes


def test_soft_nms_is_refused_with_its_reason(whole: Path) -> None:
    options = {"model.test_cfg.nms": {"type": "soft_nms", "iou_threshold": 0.5}}
    detector = source.load(model_of(TINY, whole, options))
    assert "soft_nms" in str(detector.facts.refused)
    with pytest.raises(StepFailed, match="soft_nms"):
        detector.graph()


def test_files_of_the_same_inputs_are_the_same(tmp_path: Path, whole: Path) -> None:
    detector = source.load(model_of(TINY, whole, {}))
    for name in ("a.onnx", "b.onnx"):
        source.export_onnx(detector, shape("64x64"), 17, tmp_path / name)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert str(ROOT).encode() not in (tmp_path / "a.onnx").read_bytes()
