"""mmdet as a source: its trained model's AP, its pipelines, and what is refused."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from farm import specs
from farm.errors import InputError, StepFailed
from farm.parsing import parse_dims
from farm.preprocess import preparer
from farm.sources import mmdet as source
from farm.sources.mmdet import config, detector
from farm.sources.mmdet.data import test_data

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("FARM_SHARED", ROOT.parent / "shared"))
needs_shared = pytest.mark.skipif(
    not (SHARED / "checkpoints").is_dir(),
    reason=f"no trained checkpoint: {SHARED} is missing; set FARM_SHARED",
)
torch.set_num_threads(1)  # with more, OpenMP's spinning makes a busy machine 80 times slower


def mim(name: str) -> str:
    import mmdet

    return str(Path(mmdet.__file__).parent / ".mim" / "configs" / name)


def shape(opt: str, low: str | None = None, high: str | None = None) -> specs.Shape:
    return specs.Shape("s", parse_dims(low or opt), parse_dims(opt), parse_dims(high or opt))


def model_of(name: str, checkpoint: Path, options: dict[str, Any], **more: Any) -> specs.Model:
    files = specs.File(mim(name), ""), specs.File(str(checkpoint), "")
    return specs.Model("m", "mmdet", *files, cfg_options=tuple(options.items()), **more)


# The trained YOLOX-Nano ---------------------------------------------------------------------


def nano(**more: Any) -> specs.Model:
    checkpoint = SHARED / "checkpoints" / "yolox_nano_8x8_300e_coco.pth"
    return model_of("yolox/yolox_nano_8x8_300e_coco.py", checkpoint, {}, **more)


@needs_shared
def test_trained_yolox_has_its_published_ap_on_coco_mini() -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    folder = SHARED / "coco-mini"
    coco = COCO(str(folder / "instances_val2017.json"))
    detector = source.load(nano())
    prepare = preparer(detector.facts.pipeline, shape("416x416"))
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
    steps = test_data.test_pipelines(config.read(model), "")["data.test.pipeline"]
    own = Compose(steps)
    pipeline = source.check(model).pipeline
    fixed = preparer(pipeline, shape("416x416"))
    dynamic = preparer(pipeline, shape("416x416", "320x320", "640x640"))
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
    settings = config.read(model_of(name, Path("none"), {}))
    return test_data.canonical_pipeline(settings, "")


@pytest.mark.parametrize("size", [(60, 120), (120, 60), (30, 30), (40, 160), (33, 167)])
def test_fixed_shape_letterboxes_every_image(
    picture: Callable[[int, int], str], size: tuple[int, int]
) -> None:
    prepare = preparer(pipeline_of("retinanet/retinanet_r50_fpn_1x_coco.py"), shape("80x160"))
    image, meta = prepare(picture(*size), 7, "x.png")
    assert image.shape == (3, 80, 160) and image.dtype == np.float32
    scale = min(80 / size[0], 160 / size[1])
    assert (meta.valid_h, meta.valid_w) == (round(size[0] * scale), round(size[1] * scale))
    assert meta.scale_x == pytest.approx(meta.valid_w / size[1])
    assert (image[:, meta.valid_h :] == 0).all() and (image[:, :, meta.valid_w :] == 0).all()


def test_pipeline_without_keep_ratio_fills_the_shape(picture: Callable[[int, int], str]) -> None:
    prepare = preparer(pipeline_of("ssd/ssd300_coco.py"), shape("96x128"))
    image, meta = prepare(picture(50, 40), 7, "x.png")
    assert image.shape == (3, 96, 128)
    assert (meta.scale_x, meta.scale_y) == (pytest.approx(128 / 40), pytest.approx(96 / 50))


def test_dynamic_size_outside_the_bounds_is_refused(picture: Callable[[int, int], str]) -> None:
    pipeline = pipeline_of("retinanet/retinanet_r50_fpn_1x_coco.py")
    prepare = preparer(pipeline, shape("64x128", "64x64", "128x128"))
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
        source.check(replace(gone, config=specs.File(mim(TINY), "")))


# mmcv closes its temporary copy of a broken config after its folder is gone.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_config_that_does_not_parse_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("model = dict(")
    model = replace(model_of(TINY, tmp_path, {}), config=specs.File(str(path), ""))
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


def test_settings_for_testing_may_have_keys_of_several_types() -> None:
    stated = {"nms": {1: 0.5, "b": [{None: 1, "a": (2, {3: 4, "c": 5})}]}, 2: "two"}
    found = detector._test_settings(SimpleNamespace(test_cfg=stated))
    assert json.loads(found) == {
        "nms": {"1": 0.5, "b": [{"None": 1, "a": [2, {"3": 4, "c": 5}]}]}, "2": "two",
    }  # fmt: skip
    assert detector._test_settings(SimpleNamespace(test_cfg=None)) == "{}"


def test_deformable_layers_leave_pythons_root_logger_alone() -> None:
    from mmcv.ops import DeformConv2dPack

    before = logging.root.level, list(logging.root.handlers)
    layer = DeformConv2dPack(2, 2, 3)
    layer.load_state_dict(layer.state_dict())
    assert (logging.root.level, logging.root.handlers) == before


def test_an_unknown_suppression_is_refused_with_its_reason(whole: Path) -> None:
    options = {"model.test_cfg.nms": {"type": "nms_rotated", "iou_threshold": 0.5}}
    detector = source.load(model_of(TINY, whole, options))
    assert "nms_rotated" in str(detector.facts.refused)
    with pytest.raises(StepFailed, match="nms_rotated"):
        detector.graph()


def test_convolutions_of_a_search_for_dilations_are_as_in_mmdets_test() -> None:
    name = "rfnext/rfnext_{}_mask_rcnn_pvtv2-b0_fpn_1x_coco.py"
    search = config.read(model_of(name.format("search"), Path(), {}))
    searched = {type(layer).__name__ for layer in config.build(search, "").modules()}
    assert "Conv2dRFSearchOp" in searched
    fixed = config.read(model_of(name.format("fixed_single_branch"), Path(), {}))
    with pytest.raises(StepFailed, match=r"dilations are .*/local_search_config_step10.json"):
        config.build(fixed, "")


def test_normalisation_that_trains_on_several_machines_needs_none(tmp_path: Path) -> None:
    name = "simple_copy_paste/mask_rcnn_r50_fpn_syncbn-all_rpn-2conv_ssj_scp_32x2_90k_coco.py"
    detector = config.build(config.read(model_of(name, Path(), {})), "")
    norm = detector.get_submodule("neck.fpn_convs.0.bn")
    assert norm(torch.ones(1, 256, 2, 2)).shape == (1, 256, 2, 2)


def test_files_of_the_same_inputs_are_the_same(tmp_path: Path, whole: Path) -> None:
    detector = source.load(model_of(TINY, whole, {}))
    for name in ("a.onnx", "b.onnx"):
        source.export_onnx(detector, shape("64x64"), 17, tmp_path / name)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert str(ROOT).encode() not in (tmp_path / "a.onnx").read_bytes()


# Importing mmcv -----------------------------------------------------------------------------


def test_a_half_written_cache_of_yapf_does_not_break_the_import_of_mmdet(tmp_path: Path) -> None:
    def python(code: str) -> None:
        home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
        subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, **home})

    python("import yapf")
    files = [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]
    assert files, "yapf caches its grammar there"
    for file in files:
        file.write_bytes(file.read_bytes()[:100])
    python("import farm.sources.mmdet.compat")
