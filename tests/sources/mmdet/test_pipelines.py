"""Test pipelines beyond the plain ones: padding all around, scales of an image's own, refusals."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from farm import specs
from farm.detections import Detections
from farm.detections.convert import to_original
from farm.errors import InputError, StepFailed
from farm.plan.content.configs import config_file
from farm.preprocess import preparer as prepare_with
from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import mmcv
from mmdet.datasets import PIPELINES
from mmdet.datasets.pipelines import Compose

from farm.parsing import parse_dims
from farm.sources.mmdet import config
from farm.sources.mmdet.data import pipeline, test_data

pytestmark = pytest.mark.slow

CENTERNET = "centernet/centernet_resnet18_140e_coco.py"
CORNERNET = "cornernet/cornernet_hourglass104_mstest_10x5_210e_coco.py"
NO_FLIP = {"data.test.pipeline.1.flip": False}


def steps_of(name: str, options: dict[str, Any]) -> list[dict[str, Any]]:
    path = config_file(name, Path())
    model = specs.Model("x", "mmdet", path, specs.File("", ""), tuple(options.items()))
    return list(test_data.test_pipelines(config.read(model), name)["data.test.pipeline"])


def preparer(name: str, shape: str, low: str = "", high: str = "") -> Any:
    dims = (parse_dims(low or shape), parse_dims(shape), parse_dims(high or shape))
    return prepare_with(pipeline.canonical(steps_of(name, NO_FLIP)), specs.Shape("x", *dims))


@pytest.fixture
def picture(tmp_path: Path) -> Callable[[int, int], str]:
    def write(height: int, width: int) -> str:
        path = tmp_path / f"{height}x{width}.png"
        pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        cv2.imwrite(str(path), pixels)
        return str(path)

    return write


@pytest.mark.parametrize("name", [CENTERNET, CORNERNET])
def test_a_scale_of_the_images_own_and_padding_all_around_are_mmdets(
    picture: Callable[[int, int], str], name: str
) -> None:
    path = picture(70, 121)
    steps = copy.deepcopy(steps_of(name, NO_FLIP))
    steps[1]["transforms"][-1]["meta_keys"] = ("border", "scale_factor", "img_shape")
    expected = Compose(steps)({"img_info": {"filename": path}, "img_prefix": None})
    info = expected["img_metas"][0].data
    image, meta = preparer(name, "320x320", "32x32", "640x640")(path, 1, "x.png")
    theirs = expected["img"][0]
    np.testing.assert_array_equal(image, np.asarray(getattr(theirs, "data", theirs)))
    assert (meta.top, meta.left) == (int(info["border"][0]), int(info["border"][2]))
    assert min(meta.top, meta.left) > 0
    assert (meta.valid_h, meta.valid_w) == info["img_shape"][:2] == (70, 121)
    assert (meta.scale_x, meta.scale_y) == (1, 1)


def test_a_fixed_shape_is_padded_all_around(picture: Callable[[int, int], str]) -> None:
    image, meta = preparer(CENTERNET, "96x128")(picture(40, 80), 1, "x.png")
    assert image.shape == (3, 96, 128)
    assert (meta.valid_h, meta.valid_w, meta.top, meta.left) == (64, 128, 16, 0)
    padding = (image == image[:, :1, :1]).all(0)
    assert padding[:16].all() and padding[80:].all() and not padding[16:80].all(1).any()


def test_boxes_come_back_from_where_the_image_was_put(picture: Callable[[int, int], str]) -> None:
    _, meta = preparer(CENTERNET, "96x128")(picture(40, 80), 1, "x.png")
    whole = np.array([[0, 16, 128, 80]], np.float32)
    found = Detections(whole, np.ones(1, np.float32), np.zeros(1, np.int64))
    np.testing.assert_allclose(to_original(found, meta, False, 0.5).boxes, [[0, 0, 80, 40]])


@pytest.mark.parametrize(
    ("name", "shape", "fitting"),
    [(CENTERNET, "100x128", "128x128"), (CORNERNET, "256x383", "383x383")],
)
def test_a_shape_that_is_never_padded_to_is_refused(name: str, shape: str, fitting: str) -> None:
    with pytest.raises(StepFailed, match=f"other sizes than {shape}.*next that fits is {fitting}"):
        preparer(name, shape)


def test_a_flip_by_chance_inside_of_one_that_is_off_never_happens() -> None:
    transforms = [{"type": "Resize", "keep_ratio": True}, {"type": "RandomFlip", "flip_ratio": 0.5}]
    outer = {"type": "MultiScaleFlipAug", "img_scale": (1333, 800), "transforms": transforms}
    load = {"type": "LoadImageFromFile"}
    assert "RandomFlip" not in pipeline.canonical([load, {**outer, "flip": False}])
    with pytest.raises(StepFailed, match="at random"):
        pipeline.canonical([load, *transforms])


def test_proposals_from_files_are_refused_by_name() -> None:
    with pytest.raises(StepFailed, match="its proposals come from files"):
        pipeline.canonical(steps_of("fast_rcnn/fast_rcnn_r50_fpn_1x_coco.py", {}))


def test_a_package_that_is_not_installed_is_named(tmp_path: Path) -> None:
    path = tmp_path / "config.py"
    path.write_text("custom_imports = dict(imports=['nowhere.models'], allow_failed_imports=False)")
    model = specs.Model("x", "mmdet", specs.File(str(path), ""), specs.File("", ""))
    with pytest.raises(InputError, match="needs the package nowhere, which is not installed"):
        config.read(model)


def test_a_file_that_is_no_image_is_told(tmp_path: Path) -> None:
    for name, content in (("text.png", b"no image"), ("empty.png", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(StepFailed, match=f"{name}: not an image that OpenCV can decode"):
            preparer(CENTERNET, "64x64")(str(tmp_path / name), 0, name)


class Gamma(PIPELINES.get("Normalize")):  # type: ignore[misc]
    def __call__(self, results: dict[str, Any]) -> Any:
        results["img"] = 255 * (results["img"].astype("float32") / 255) ** 2.2
        return super().__call__(results)


def brighter(image: Any, *values: Any) -> Any:
    return image + 1


@pytest.mark.parametrize(
    ("replace", "reason"),
    [
        (lambda m: m.setitem(PIPELINES.module_dict, "Normalize", Gamma), "step Normalize is .*Gam"),
        (lambda m: m.setitem(PIPELINES.module_dict, "MultiScaleFlipAug", Gamma), "step MultiScale"),
        (lambda m: m.setattr(PIPELINES.get("Pad"), "__call__", brighter), "Pad with __call__"),
        (lambda m: m.setattr(mmcv, "imnormalize", brighter), "mmcv.imnormalize, which is .*bri"),
        (lambda m: m.setattr(mmcv.image.io, "imread_backend", "pillow"), "reads images by pillow"),
    ],
)
def test_a_transform_that_the_configs_code_replaces_is_refused(
    monkeypatch: pytest.MonkeyPatch, replace: Callable[[Any], None], reason: str
) -> None:
    """Images are prepared without that code, and would be others than the model's own."""
    name = "retinanet/retinanet_r50_fpn_1x_coco.py"
    settings = config.read(specs.Model("x", "mmdet", config_file(name, Path()), specs.File("", "")))
    expected = test_data.canonical_pipeline(settings, name)
    replace(monkeypatch)
    with pytest.raises(StepFailed, match=reason):
        test_data.canonical_pipeline(settings, name)
    monkeypatch.undo()
    assert test_data.canonical_pipeline(settings, name) == expected
