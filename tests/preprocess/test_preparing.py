"""Prepared pixels: `preprocess` against mmdet's transforms and against a plain letterbox, paddings
as mmdet's, pipelines of each data set, and images and transforms that cannot be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from farm import specs
from farm.errors import InputError, StepFailed
from farm.preprocess import NoImage, preparer
from farm.preprocess.settings import pipeline_of
from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import mmcv
from mmdet.datasets.pipelines import Compose

from farm.parsing import parse_dims
from farm.sources.mmdet.data import pipeline, test_data
from farm.stages.check.examples import try_pipeline

pytestmark = pytest.mark.slow

Image = npt.NDArray[Any]


def shape(opt: str, low: str = "", high: str = "") -> specs.Shape:
    return specs.Shape("s", *(parse_dims(text) for text in (low or opt, opt, high or opt)))


FIXED, DYNAMIC = shape("96x128"), shape("96x128", "32x32", "256x256")


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "x.png"
    pixels = np.random.default_rng(0).integers(0, 256, (50, 90, 3), dtype=np.uint8)
    cv2.imwrite(str(path), pixels)
    return path


def prepared(text: str, profile: specs.Shape, path: Path) -> Image:
    image: Image = preparer(text, profile)(str(path), 1, path.name)[0]
    return image.astype(np.float32)


# Every field of `preprocess` ----------------------------------------------------------------

FIELDS = [
    {},
    {"to_rgb": False},
    {"mean": (103.5, 116.3, 123.7)},
    {"std": (58.4, 57.1, 57.4), "to_rgb": False},
    {"keep_ratio": False},
    {"pad": 32},
    {"pad_value": 114.0},
    {"pad_value": 114.0, "to_rgb": False, "pad": 32},
    {"pad_value": 0.25, "to_rgb": False},
    {"pad_value": -1.5, "mean": (100.0, 110.0, 120.0), "std": (255.0, 255.0, 255.0), "pad": 32},
    {"pad_value": 300.0, "to_rgb": False, "keep_ratio": False, "pad": 100},
]


def letterbox(how: specs.Preprocess, path: Path, profile: specs.Shape) -> Image:
    """In plain numpy and OpenCV."""
    image = cv2.imread(str(path))
    (height, width), opt = image.shape[:2], profile.opt
    if how.keep_ratio:
        scale = min(opt.w / width, opt.h / height)
        size = (int(width * scale + 0.5), int(height * scale + 0.5))
    else:
        size = (opt.w, opt.h)
    image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR).astype(np.float32)
    image = image[..., ::-1] if how.to_rgb else image
    image = (image - np.float32(how.mean)) / np.float32(how.std)
    if profile.dynamic_size:
        multiple = how.pad or 1
        height, width = (-(-extent // multiple) * multiple for extent in image.shape[:2])
    else:
        height, width = opt.h, opt.w
    padded = np.full((height, width, 3), how.pad_value, np.float32)
    padded[: image.shape[0], : image.shape[1]] = image
    return padded.transpose(2, 0, 1)


def of_mmdet(how: specs.Preprocess, path: Path, profile: specs.Shape) -> Image:
    """By mmdet's own transforms, written as a config writes them."""
    opt, value = profile.opt, (how.pad_value,) * 3
    size: dict[str, Any] = {"size_divisor": how.pad or 1}
    if not profile.dynamic_size:
        size = {"size": (opt.h, opt.w)}
    values = {"mean": how.mean, "std": how.std, "to_rgb": how.to_rgb}
    steps = [
        {"type": "LoadImageFromFile"},
        {"type": "Resize", "img_scale": (opt.w, opt.h), "keep_ratio": how.keep_ratio},
        {"type": "Normalize", **values},
        {"type": "Pad", **size, "pad_val": {"img": value}},
    ]
    found = Compose(steps)({"img_info": {"filename": str(path)}, "img_prefix": None})
    image: Image = found["img"].transpose(2, 0, 1)
    return image


@pytest.mark.parametrize("profile", [FIXED, DYNAMIC])
@pytest.mark.parametrize("fields", FIELDS)
def test_preprocess_is_what_it_says(
    picture: Path, fields: dict[str, Any], profile: specs.Shape
) -> None:
    how = specs.Preprocess(**fields)
    image = prepared(pipeline_of(how), profile, picture)
    np.testing.assert_array_equal(image, of_mmdet(how, picture, profile))
    np.testing.assert_allclose(image, letterbox(how, picture, profile), rtol=1e-5, atol=1e-5)


def test_images_of_whole_numbers_stay_so() -> None:
    assert "normalize" not in pipeline_of(specs.Preprocess(to_rgb=False, pad_value=114.0))
    assert "normalize" in pipeline_of(specs.Preprocess(to_rgb=False, pad_value=0.5))


def test_yolox_by_preprocess_is_yolox_by_its_config(picture: Path) -> None:
    """Letterboxed by a ready file's settings and by mmdet's config: the same pixels."""
    pad = {"type": "Pad", "pad_to_square": True, "pad_val": {"img": (114.0, 114.0, 114.0)}}
    steps = [{"type": "LoadImageFromFile"}, {"type": "Resize", "keep_ratio": True}, pad]
    own = prepared(pipeline.canonical(steps), shape("416x416"), picture)
    ready = specs.Preprocess(to_rgb=False, pad=32, pad_value=114.0)
    np.testing.assert_array_equal(prepared(pipeline_of(ready), shape("416x416"), picture), own)
    assert (own[:, -1, -1] == 114).all()


# A config's own Pad -------------------------------------------------------------------------

NORMALIZE = {"type": "Normalize", "mean": [100.0, 110.0, 120.0], "std": [50.0, 60.0, 70.0]}


@pytest.mark.filterwarnings("ignore:pad_val of float type:DeprecationWarning")
@pytest.mark.parametrize("profile", [FIXED, DYNAMIC])
@pytest.mark.parametrize("first", ["Pad", "Normalize"])
@pytest.mark.parametrize(
    "value", [None, 114, 114.5, {"img": 114}, {"img": (1.0, 2.0, 3.0)}, {"masks": 0}]
)
def test_a_configs_padding_is_mmdets(
    picture: Path, value: Any, first: str, profile: specs.Shape
) -> None:
    def steps(**size: Any) -> list[dict[str, Any]]:
        pad = {"type": "Pad", **size} | ({} if value is None else {"pad_val": value})
        last = [pad, NORMALIZE] if first == "Pad" else [NORMALIZE, pad]
        scale = (profile.opt.w, profile.opt.h)
        resize = {"type": "Resize", "img_scale": scale, "keep_ratio": True}
        return [{"type": "LoadImageFromFile"}, resize, *last]

    text = pipeline.canonical(steps(size_divisor=32))
    size: dict[str, Any] = {"size_divisor": 32}
    if not profile.dynamic_size:
        size = {"size": (profile.opt.h, profile.opt.w)}
    own = Compose(steps(**size))({"img_info": {"filename": str(picture)}, "img_prefix": None})
    image = prepared(text, profile, picture)
    np.testing.assert_array_equal(image, own["img"].transpose(2, 0, 1))


# The pipelines of data sets -----------------------------------------------------------------

LOAD, RESIZE = {"type": "LoadImageFromFile"}, {"type": "Resize", "keep_ratio": True}
PLAIN, NORMAL = [LOAD, RESIZE], [LOAD, RESIZE, NORMALIZE]
CLASSES = {"classes": ("a",)}


def part(steps: list[Any] | None, **more: Any) -> dict[str, Any]:
    return {"type": "CocoDataset", **more} | ({"pipeline": steps} if steps else {})


def of(test: Any) -> str:
    return test_data.canonical_pipeline(mmcv.Config({"data": {"test": test}, **LEFTOVER}), "c.py")


LEFTOVER = {"test_pipeline": PLAIN}


@pytest.mark.parametrize(
    "test",
    [
        part(NORMAL),
        [part(NORMAL), part(NORMAL)],
        {"type": "ConcatDataset", "datasets": [part(NORMAL), part(NORMAL, ann_file="other")]},
        {"type": "ConcatDataset", "datasets": [part(NORMAL)], "pipeline": PLAIN},
        {"type": "RepeatDataset", "times": 2, "dataset": part(NORMAL)},
        {"type": "RepeatDataset", "times": 2, "dataset": part(NORMAL), "pipeline": PLAIN},
        {"type": "ClassBalancedDataset", "dataset": {"type": "ConcatDataset", "datasets": [
            {"type": "RepeatDataset", "times": 2, "dataset": [part(NORMAL), part(NORMAL)]}]}},
        {"type": "MultiImageMixDataset", "dataset": part(PLAIN), "pipeline": [NORMALIZE]},
        {"type": "OwnWrapper", "datasets": [part(NORMAL)]},
        part(NORMAL, ann_file=["a.json", "b.json"], img_prefix=["a/", "b/"]),
        [part(NORMAL, ann_file=("a.json", "b.json")), part(NORMAL)],
        part(NORMAL, dataset="a name that the class takes"),
        [part([LOAD, {**RESIZE, "img_scale": (3, 4)}, NORMALIZE]), part(NORMAL)],
    ],
)  # fmt: skip
def test_each_data_sets_own_pipeline_counts_and_not_a_leftover_one(test: Any) -> None:
    assert of(test) == pipeline.canonical(NORMAL)


def test_the_leftover_pipeline_counts_where_no_data_set_has_one() -> None:
    for test in (None, {}, [], part(None), {"type": "ConcatDataset", "datasets": []}):
        assert of(test) == pipeline.canonical(PLAIN)


@pytest.mark.parametrize(
    ("test", "said"),
    [
        ([part(NORMAL), part(PLAIN)], "data.test.0.pipeline and data.test.1.pipeline prepare"),
        (
            {"type": "ConcatDataset", "datasets": [part(PLAIN), part(NORMAL)]},
            "data.test.datasets.0.pipeline and data.test.datasets.1.pipeline prepare",
        ),
        ([part(NORMAL), part(None)], "data.test.1 has no `pipeline`"),
        ([part(NORMAL), part(None, ann_file=["a", "b"])], "data.test.1 has no `pipeline`"),
        (
            [part(NORMAL, ann_file=["a", "b"]), part(PLAIN, ann_file=["c", "d"])],
            "data.test.0.pipeline and data.test.1.pipeline prepare",
        ),
        ([part(NORMAL), None], "data.test.1 has no `pipeline`"),
        (
            {"type": "Own", "pipeline": PLAIN, "dataset": part(NORMAL)},
            "data.test is a Own, which has a pipeline and data sets within",
        ),
        (part("abc"), "expected a list of transforms at data.test.pipeline"),  # type: ignore[arg-type]
    ],
)
def test_unequal_pipelines_are_refused_by_name(test: Any, said: str) -> None:
    with pytest.raises(InputError) as error:
        of(test)
    assert said in str(error.value) and "c.py" in str(error.value)


def test_classes_of_a_data_set_within_are_found(tmp_path: Path) -> None:
    from farm.sources.mmdet import config

    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    within = part(NORMAL, classes=str(tmp_path / "classes.txt"))
    for test in ([within], {"type": "ConcatDataset", "datasets": [within]}):
        assert config.class_names(mmcv.Config({"data": {"test": test}}), "") == ("cat", "dog")


def test_mmcvs_variables_are_filled_in(tmp_path: Path) -> None:
    from farm.sources.mmdet import config

    (tmp_path / "base.py").write_text("model = dict(name='base')\n")
    (tmp_path / "over.py").write_text(
        "_base_ = ['{{ fileDirname }}/base.py']\nname = '{{ fileBasenameNoExtension }}'\n"
    )
    model = specs.Model("x", "mmdet", specs.File(str(tmp_path / "over.py"), ""), None)  # type: ignore[arg-type]
    read = config.read(model)
    assert read.model.name == "base" and read.name == "over"


# Transforms and images that cannot be used --------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([LOAD, {"type": "Pad", "size_divisor": 32}, RESIZE], "must pad once, after Resize"),
        ([LOAD, {**RESIZE, "img_scale": [(1, 2), (3, 4)]}], "one scale"),
        ([LOAD, {**RESIZE, "override": True}], "Resize: override not supported"),
        ([LOAD, RESIZE, {"type": "Albu", "transforms": []}], "'Albu' is not supported"),
        ([LOAD, "Resize"], "expected a transform"),
        ([LOAD, {"type": "MultiScaleFlipAug", "img_scale": (1, 2)}], "no list of `transforms`"),
        ([LOAD, RESIZE, {**NORMALIZE, "mean": np.ones(3)}], "no number or text"),
    ],
)
def test_pipelines_of_other_kinds_are_refused_by_name(steps: list[Any], said: str) -> None:
    with pytest.raises(StepFailed, match=said):
        pipeline.canonical(steps)


def test_how_one_scale_is_drawn_is_all_the_same() -> None:
    assert pipeline.canonical([LOAD, {**RESIZE, "multiscale_mode": "value"}]) == (
        pipeline.canonical(PLAIN)
    )


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd")
    random = np.random.default_rng(0)
    for name, extent in {
        "good.png": (40, 50, 3),
        "alpha.png": (40, 50, 4),
        "gray.png": (40, 50),
    }.items():
        cv2.imwrite(str(folder / name), random.integers(0, 256, extent, dtype=np.uint8))
    cv2.imwrite(str(folder / "deep.png"), random.integers(0, 65536, (40, 50), dtype=np.uint16))
    cv2.imwrite(str(folder / "thin.png"), np.zeros((1, 30000, 3), np.uint8))
    whole = (folder / "good.png").read_bytes()
    (folder / "torn.png").write_bytes(whole[: len(whole) // 2])
    (folder / "page.jpg").write_bytes(b"<html>404</html>")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "folder.jpg").mkdir()
    (folder / "huge.png").write_bytes(whole[:16] + b"\0\0\xea\x60" * 2 + whole[24:])
    return folder


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("gray.png", {"color_type": "unchanged"}, "decode makes 40x50 of it"),
        ("alpha.png", {"color_type": "unchanged"}, "decode makes 40x50x4 of it"),
        ("good.png", {"color_type": "grayscale"}, "decode makes 40x50 of it"),
        ("good.png", {"color_type": "colour"}, "LoadImageFromFile fails on it: KeyError"),
        ("good.png", {"file_client_args": {"backend": "none"}}, "LoadImageFromFile fails on it"),
        ("thin.png", {}, "resize fails on it"),
        ("torn.png", {}, "not an image that OpenCV can decode"),
        ("page.jpg", {}, "not an image that OpenCV can decode"),
        ("empty.jpg", {}, "not an image that OpenCV can decode"),
        ("huge.png", {}, "not an image that OpenCV can decode|larger than what OpenCV decodes"),
        ("folder.jpg", {}, "cannot be read: Is a directory"),
        ("nowhere.jpg", {}, "no such image"),
    ],
)
def test_what_cannot_be_prepared_names_the_image_and_the_transform(
    images: Path, name: str, options: dict[str, Any], said: str
) -> None:
    text = pipeline.canonical([{**LOAD, **options}, RESIZE])
    with pytest.raises(StepFailed, match=f"{name}: .*({said})"):
        prepared(text, FIXED, images / name)


@pytest.mark.parametrize("name", ["good.png", "alpha.png", "gray.png", "deep.png"])
def test_odd_images_are_prepared_as_mmdet_does(images: Path, name: str) -> None:
    size = (FIXED.opt.h, FIXED.opt.w)
    own = Compose([LOAD, {**RESIZE, "img_scale": size}, {"type": "Pad", "size": size}])
    found = own({"img_info": {"filename": str(images / name)}, "img_prefix": None})
    image = prepared(pipeline.canonical(PLAIN), FIXED, images / name)
    np.testing.assert_array_equal(image, found["img"].transpose(2, 0, 1))


def test_an_exception_inside_of_a_transform_is_told(images: Path) -> None:
    wrong = {**NORMALIZE, "mean": [1.0, 2.0], "std": [1.0, 2.0]}
    with pytest.raises(StepFailed, match=r"good.png: the test pipeline's Normalize fails on it"):
        prepared(pipeline.canonical([LOAD, RESIZE, wrong]), FIXED, images / "good.png")
    text = pipeline.canonical(
        [LOAD, RESIZE, {"type": "Pad", "size_divisor": 32, "pad_to_square": True}]
    )
    with pytest.raises(StepFailed, match="the test pipeline's Pad cannot be made: AssertionError"):
        preparer(text, DYNAMIC)


def test_a_size_that_the_network_does_not_take_is_told_by_prepare(images: Path) -> None:
    prepare = preparer(pipeline.canonical(PLAIN), DYNAMIC, specs.Sizes(32))
    with pytest.raises(StepFailed, match=r"good.png: prepared it is 96x120.*multiples of 32"):
        prepare(str(images / "good.png"), 1, "good.png")
    padded = pipeline.canonical([*PLAIN, {"type": "Pad", "size_divisor": 32}])
    preparer(padded, DYNAMIC, specs.Sizes(32))(str(images / "good.png"), 1, "good.png")


def test_check_tries_the_first_images(images: Path, tmp_path: Path) -> None:
    def of_names(*names: str) -> tuple[specs.CocoDataset, Any]:
        import json

        listed = [{"id": i, "file_name": name} for i, name in enumerate(names, 1)]
        file = tmp_path / f"{'-'.join(names)}.json"
        document = {"images": listed, "annotations": [], "categories": []}
        file.write_text(json.dumps(document))
        places = specs.File(str(images), ""), specs.File(str(file), "")
        return specs.CocoDataset(*places), document

    unchanged = pipeline.canonical([{**LOAD, "color_type": "unchanged"}, RESIZE])
    try_pipeline(unchanged, *of_names("good.png"))
    try_pipeline(pipeline.canonical(PLAIN), *of_names("good.png", "alpha.png", "gray.png"))
    with pytest.raises(StepFailed, match=r"alpha.png: the test pipeline's decode"):
        try_pipeline(unchanged, *of_names("good.png", "alpha.png"))
    with pytest.raises(InputError, match=r"torn.png: not an image"):
        try_pipeline(unchanged, *of_names("good.png", "torn.png"))
    drawn = specs.ShapesDataset(5000, 7, 160)
    try_pipeline(unchanged, drawn, {})
    grayscale = pipeline.canonical([{**LOAD, "color_type": "grayscale"}, RESIZE])
    with pytest.raises(StepFailed, match=r"000001.png: .* three channels"):
        try_pipeline(grayscale, drawn, {})
    assert issubclass(NoImage, StepFailed)
