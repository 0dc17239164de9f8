"""Prepared pixels without MMDetection: byte for byte those of its own code, on real images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import yaml
from conftest import PROJECT, SHARED
from PIL import Image

from farm import specs
from farm.errors import StepFailed
from farm.plan.content.configs import config_file
from farm.preprocess import opencv, preparer
from farm.preprocess.transforms import centre_pad
from farm.sources.mmdet import compat  # noqa: F401

# isort: split
from mmdet.datasets.pipelines import Compose, RandomCenterCropPad

from farm.parsing import parse_dims
from farm.sources.mmdet import config
from farm.sources.mmdet.data import pipeline, test_data
from farm.sources.mmdet.data import preparer as of_mmdet
from farm.sources.mmdet.data.steps import centre_pad as of_step
from farm.sources.mmdet.data.steps import pipeline_of
from farm.specs.pipeline import CentrePad, Decode, Pipeline, Resize, is_mmdets, parsed

pytestmark = pytest.mark.slow

Pixels = npt.NDArray[Any]

PUBLISHED = [
    one["config"]
    for one in yaml.safe_load((PROJECT / "matrices/coco.yaml").read_text())["models"].values()
]
KEYPOINTS = (
    "centernet/centernet_resnet18_140e_coco.py",
    "cornernet/cornernet_hourglass104_mstest_10x5_210e_coco.py",
)


def profile(opt: str, low: str = "", high: str = "") -> specs.Shape:
    return specs.Shape("s", *(parse_dims(text) for text in (low or opt, opt, high or opt)))


FIXED, DYNAMIC = profile("384x512"), profile("384x640", "32x32", "2048x2048")
SQUARE = profile("511x511")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Photographs where they are there; drawn ones that lie, stand, and are turned by EXIF."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for name, extent in {"lies.png": (60, 91, 3), "stands.png": (101, 64, 3)}.items():
        cv2.imwrite(str(folder / name), random.integers(0, 256, extent, dtype=np.uint8))
    turned = Image.fromarray(random.integers(0, 256, (50, 70, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(folder / "turned.jpg", exif=exif)
    return [*folder.iterdir(), *sorted(SHARED.glob("coco-mini/val2017/*.jpg"))[:4]]


def steps_of(name: str) -> list[dict[str, Any]]:
    options = (("data.test.pipeline.1.flip", False),)
    model = specs.Model("x", "mmdet", config_file(name, Path()), specs.File("", ""), options)
    return list(test_data.test_pipelines(config.read(model), name)["data.test.pipeline"])


def require_equal(steps: list[Any], shape: specs.Shape, paths: list[Path]) -> None:
    """Both preparers make the same bytes and the same meta."""
    text = pipeline.canonical(steps)
    assert not is_mmdets(text)
    ours = opencv.Preparer(text, shape)
    theirs = of_mmdet.Preparer(pipeline.transforms(steps, "x"), shape)
    for path in paths:
        (own, own_meta), (image, meta) = (one(str(path), 1, path.name) for one in (ours, theirs))
        assert own_meta == meta
        assert own.dtype == image.dtype and own.shape == image.shape
        assert own.tobytes() == image.tobytes(), path


@pytest.mark.parametrize("shape", [FIXED, DYNAMIC], ids=["fixed", "dynamic"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_pipelines_are_mmdets_to_the_byte(
    images: list[Path], name: str, shape: specs.Shape
) -> None:
    fitting = profile("383x511") if "cornernet" in name and shape is FIXED else shape
    require_equal(steps_of(name), fitting, images)


def test_twelve_models_are_published() -> None:
    assert len(PUBLISHED) == 12


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_pipelines_at_their_own_scale_are_those_of_their_configs(
    images: list[Path], name: str
) -> None:
    """Without the farm's list of transforms between: the config's pipeline as mmdet builds it."""
    steps = steps_of(name)
    width, height = steps[1].get("img_scale", (0, 0))  # CornerNet keeps each image's own size
    whole = Compose(steps)
    shape = profile(f"{height or 511}x{width or 511}", "1x3x32x32", "1x3x4096x4096")
    prepare = preparer(pipeline.canonical(steps), shape)
    for path in images:
        found = whole({"img_info": {"filename": str(path)}, "img_prefix": None})["img"][0]
        image = prepare(str(path), 1, path.name)[0]
        assert image.tobytes() == np.asarray(getattr(found, "data", found)).tobytes()


@pytest.mark.parametrize("shape", [DYNAMIC, SQUARE], ids=["dynamic", "square"])
@pytest.mark.parametrize("name", KEYPOINTS)
def test_keypoint_pipelines_are_mmdets_to_the_byte(
    images: list[Path], name: str, shape: specs.Shape
) -> None:
    fitting = profile("512x512") if shape is SQUARE and "centernet" in name else shape
    require_equal(steps_of(name), fitting, images)


LOAD, RESIZE = {"type": "LoadImageFromFile"}, {"type": "Resize", "keep_ratio": True}
NORMALIZE = {"type": "Normalize", "mean": [100.0, 110.5, 120], "std": [50.0, 60.1, 70.3]}
PAD = {"type": "Pad", "size_divisor": 32}
ODD = {"type": "RandomCenterCropPad", "mean": [1.5, 2, 3], "std": [1, 1, 1], "to_rgb": True}
ODD |= {"crop_size": None, "ratios": None, "border": None, "test_mode": True}

OPTIONS: list[list[dict[str, Any]]] = [
    [LOAD, RESIZE],
    *([{**LOAD, "color_type": kind}, RESIZE] for kind in ("color_ignore_orientation", "unchanged")),
    [{**LOAD, "channel_order": "rgb"}, RESIZE, NORMALIZE],
    [{**LOAD, "channel_order": "rgb", "color_type": "color_ignore_orientation"}, RESIZE],
    [{**LOAD, "to_float32": True, "file_client_args": {"backend": "disk"}}, RESIZE],
    *(
        [LOAD, {**RESIZE, "interpolation": way}]
        for way in ("nearest", "bilinear", "bicubic", "area", "lanczos")
    ),
    [LOAD, {**RESIZE, "keep_ratio": False, "backend": "cv2", "bbox_clip_border": False}, PAD],
    [LOAD, {"type": "MultiScaleFlipAug", "scale_factor": 0.7, "transforms": [RESIZE]}],
    [LOAD, NORMALIZE, RESIZE, PAD],
    [LOAD, RESIZE, PAD, NORMALIZE],
    [LOAD, RESIZE, {**NORMALIZE, "to_rgb": False}, {**PAD, "pad_val": 7}],
    [LOAD, RESIZE, {**PAD, "pad_val": {"img": 114.5}}],
    [LOAD, RESIZE, {**PAD, "pad_val": {"img": (1, 2.5, 300)}}],
    [LOAD, RESIZE, {"type": "Pad", "size": (700, 800)}],
    [LOAD, RESIZE, {"type": "Pad", "pad_to_square": True, "pad_val": {"img": (9, 8, 7)}}],
    [LOAD, RESIZE, NORMALIZE, {**ODD, "test_pad_mode": ("size_divisor", 64)}],
    [LOAD, RESIZE, NORMALIZE, {**ODD, "test_pad_mode": ("logical_or", 127), "to_rgb": False}],
]


@pytest.mark.filterwarnings("ignore:pad_val of float type:DeprecationWarning")
@pytest.mark.parametrize("steps", OPTIONS, ids=range(len(OPTIONS)))
def test_every_option_is_mmdets_to_the_byte(images: list[Path], steps: list[Any]) -> None:
    odd = steps[-1].get("test_pad_mode")
    fixed = {"size_divisor": "384x512", "logical_or": "383x511"}[odd[0]] if odd else "384x512"
    paths = images[:3] if steps[0].get("color_type") == "unchanged" else images
    require_equal(steps, profile(fixed), paths)
    require_equal(steps, DYNAMIC, paths)


@pytest.mark.parametrize("size", [(127, 255), (128, 256), (383, 511)])
@pytest.mark.parametrize("extent", [(127, 255), (126, 254), (64, 101)])
def test_padding_on_all_sides_to_one_size_is_mmdets(
    size: tuple[int, int], extent: tuple[int, int]
) -> None:
    """Also where mmdet cuts off the last row and column: of an odd image in its own size."""
    image = np.random.default_rng(0).random((*extent, 3), np.float32)
    theirs = RandomCenterCropPad(**{k: v for k, v in ODD.items() if k != "type"})
    centre = [extent[0] // 2, extent[1] // 2]
    padded, border, _ = theirs._crop_image_and_paste(image, centre, list(size))
    ours, top, left = centre_pad(image, replace(of_step(ODD), size=size))
    np.testing.assert_array_equal(ours, padded)
    assert (top, left) == (border[0], border[2])


def test_options_that_say_the_same_are_one_text() -> None:
    """So that models of several sources share their prepared images."""
    long = [
        {**LOAD, "color_type": "color", "file_client_args": {"backend": "disk"}},
        {**RESIZE, "backend": "cv2", "bbox_clip_border": True},
        {**NORMALIZE, "mean": [100, 110.5, 120.0], "to_rgb": True},
        {**PAD, "pad_val": {"img": 0, "seg": 255}},
    ]
    assert pipeline.canonical(long) == pipeline.canonical([LOAD, RESIZE, NORMALIZE, PAD])


@pytest.mark.parametrize(
    "steps",
    [
        [LOAD, {**RESIZE, "backend": "pillow"}],
        [LOAD, {**RESIZE, "interpolation": "box"}],
        [{**LOAD, "file_client_args": {"backend": "lmdb"}}, RESIZE],
        [{**LOAD, "color_type": 1}, RESIZE],
        [LOAD, RESIZE, {**NORMALIZE, "mean": [1.0]}],
        [LOAD, RESIZE, {**PAD, "pad_to_square": True}],
        [LOAD, RESIZE, {"type": "Pad", "size": (32, 32.5)}],
        [LOAD, RESIZE, {**ODD, "mean": [1, 2, 3]}],  # of whole numbers, which mmdet refuses
        [LOAD, {**RESIZE, "scale_factor": 2}],  # which mmdet refuses
    ],
)
def test_what_only_mmdet_runs_stays_with_mmdet(steps: list[Any]) -> None:
    assert is_mmdets(pipeline.canonical(steps))


def test_a_pipeline_that_only_mmdet_runs_is_run_by_it(images: list[Path]) -> None:
    prepare = preparer(pipeline.canonical([LOAD, {**RESIZE, "backend": "pillow"}]), FIXED)
    assert isinstance(prepare, of_mmdet.Preparer)
    image, meta = prepare(str(images[0]), 1, "x.png")
    assert image.shape == (3, 384, 512) and (meta.height, meta.width) == (384, 512)


def test_a_pipeline_is_read_as_it_was_written() -> None:
    made = [Pipeline(), Pipeline(Decode(to_float32=True), (Resize(), CentrePad("logical_or", 127)))]
    for one in (*made, *filter(None, map(pipeline_of, OPTIONS[:10]))):
        assert parsed(one.text) == one


def test_a_centre_pad_without_a_mean_is_refused_by_name() -> None:
    step = {name: value for name, value in ODD.items() if name != "mean"}
    text = pipeline.canonical([LOAD, RESIZE, step])
    with pytest.raises(StepFailed, match="RandomCenterCropPad: expected `mean` of three numbers"):
        pipeline.padded_to(text)
