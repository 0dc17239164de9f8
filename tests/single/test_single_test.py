"""`farm test`: the same figures and pickles as MMDetection's own test gives for the same model."""

from __future__ import annotations

import functools
import json
import re
import shutil
import signal
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import onnx
import pytest
from conftest import PROJECT, Done, Tool

from farm import interrupts
from farm.datasets import synthetic
from farm.detections import Detections
from farm.runtimes.base import installed
from farm.single.mmdet.evaluation import as_mmdet

pytestmark = pytest.mark.slow

DEMO = PROJECT / "matrices" / "demo"
IMAGES = 12


# Data ---------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`coco`: drawn shapes, every other image cut to 160x128; `VOC2007`: the same as Pascal VOC."""
    folder = tmp_path_factory.mktemp("drawn")
    synthetic.draw(folder / "coco", IMAGES, seed=11, size=160)
    _cut(folder / "coco")
    _as_voc(folder / "coco", folder / "VOC2007")
    return folder


def _cut(coco: Path, width: int = 128) -> None:
    """So that images differ in shape; objects that do not fit any more are left out.

    Both widths are whole strides: PyTorch alone is told what of its input is padding.
    """
    document = json.loads((coco / "annotations.json").read_text())
    narrow = {image["id"] for image in document["images"][::2]}
    for image in document["images"]:
        if image["id"] in narrow:
            path = str(coco / "images" / image["file_name"])
            cv2.imwrite(path, cv2.imread(path)[:, :width])
            image["width"] = width
    kept = []
    for one in document["annotations"]:
        if one["image_id"] not in narrow:
            kept.append(one)
        elif one["bbox"][0] + one["bbox"][2] <= width:
            x, y, w, h = one["bbox"]
            kept.append({**one, "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]]})
    document["annotations"] = kept
    (coco / "annotations.json").write_text(json.dumps(document))


def _as_voc(coco: Path, voc: Path) -> None:
    document = json.loads((coco / "annotations.json").read_text())
    names = {one["id"]: one["name"] for one in document["categories"]}
    for part in ("JPEGImages", "Annotations", "ImageSets"):
        (voc / part).mkdir(parents=True)
    stems = []
    for image in document["images"]:
        stem = Path(image["file_name"]).stem
        stems.append(stem)
        picture = cv2.imread(str(coco / "images" / image["file_name"]))
        cv2.imwrite(str(voc / "JPEGImages" / f"{stem}.jpg"), picture)
        objects = "".join(
            _object(names[one["category_id"]], *one["bbox"])
            for one in document["annotations"]
            if one["image_id"] == image["id"]
        )
        size = f"<size><width>{image['width']}</width><height>{image['height']}</height></size>"
        text = f"<annotation>{size}{objects}</annotation>"
        (voc / "Annotations" / f"{stem}.xml").write_text(text)
    (voc / "ImageSets" / "test.txt").write_text("\n".join(stems) + "\n")


def _object(name: str, x: float, y: float, w: float, h: float) -> str:
    corners = {"xmin": x + 1, "ymin": y + 1, "xmax": x + w, "ymax": y + h}
    box = "".join(f"<{end}>{value}</{end}>" for end, value in corners.items())
    return f"<object><name>{name}</name><bndbox>{box}</bndbox></object>"


def coco_options(drawn: Path) -> dict[str, str]:
    return {
        "data.test.ann_file": str(drawn / "coco" / "annotations.json"),
        "data.test.img_prefix": str(drawn / "coco" / "images"),
    }


def voc_options(drawn: Path) -> dict[str, str]:
    return {
        "data.test.type": "VOCDataset",
        "data.test.ann_file": str(drawn / "VOC2007" / "ImageSets" / "test.txt"),
        "data.test.img_prefix": str(drawn / "VOC2007") + "/",
    }


# The two ways -------------------------------------------------------------------------------


@pytest.fixture
def test(tool: Tool, drawn: Path) -> Any:
    """`farm test` of a demo model on the drawn data, in COCO's form unless it is told."""

    def run(
        name: str, model: object, backend: str, *words: object, data: Any = coco_options
    ) -> Done:
        options = [f"{key}={value}" for key, value in data(drawn).items()]
        asked = (DEMO / f"{name}.py", model, "--backend", backend, *words)
        return tool("test", *asked, "--cfg-options", *options)

    return run


@pytest.fixture
def exported(tool: Tool) -> Any:
    def export(name: str, *options: object) -> Path:
        asked = ("--shape", 160, "--opset-version", 17, "--output-file", f"{name}.onnx")
        assert tool("export", *weights(name), *asked, *options).code == 0
        return Path.cwd() / f"{name}.onnx"

    return export


def weights(name: str) -> tuple[Path, Path]:
    return DEMO / f"{name}.py", DEMO / f"{name}.pth"


def figures(done: Done) -> dict[str, float]:
    """The metrics that the tool prints."""
    pairs = re.findall(r"^([\w@.]+): (-?\d\S*)$", done.out, re.M)
    return {name: float(value) for name, value in pairs}


def mmdet_test(name: str, options: dict[str, str], metrics: list[str]) -> tuple[Any, Any]:
    """MMDetection's own test.py: its loader, single_gpu_test and evaluate. Results and figures."""
    import torch

    from farm.sources.mmdet import compat  # noqa: F401

    # isort: split
    import mmcv
    from mmcv.runner import load_checkpoint
    from mmdet.apis import single_gpu_test
    from mmdet.datasets import build_dataloader, build_dataset
    from mmdet.models import build_detector

    torch.set_num_threads(1)
    config, checkpoint = weights(name)
    settings = mmcv.Config.fromfile(str(config))
    settings.merge_from_dict(options)
    settings.data.test.test_mode = True
    settings.model.train_cfg = None
    dataset = build_dataset(settings.data.test)
    loader = build_dataloader(dataset, 1, 0, dist=False, shuffle=False)
    model = build_detector(settings.model)
    load_checkpoint(model, str(checkpoint), map_location="cpu")
    # Its bar writes to what stdout was when mmcv was imported: another test's, closed by now.
    bar = functools.partial(mmcv.ProgressBar, file=sys.stdout)
    with mock.patch.object(mmcv, "ProgressBar", bar):
        results = single_gpu_test(OnCpu(model), loader)
    return results, dataset.evaluate(results, metric=metrics)


class OnCpu:
    """What MMDataParallel does, without a GPU."""

    def __init__(self, module: Any) -> None:
        self.module = module.eval()

    def eval(self) -> None:
        pass

    def __call__(self, img: Any, img_metas: Any, **options: Any) -> Any:
        return self.module(img, [one.data[0] for one in img_metas], **options)


# Figures ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["onestage", "twostage"])
def test_the_figures_and_pickles_are_mmdetections(
    test: Any, exported: Any, drawn: Path, name: str
) -> None:
    metrics = ["bbox", "segm"] if name == "twostage" else ["bbox"]
    theirs, wanted = mmdet_test(name, coco_options(drawn), metrics)
    asked = ("--eval", *metrics, "--out", "ours.pkl")
    torch = test(name, weights(name)[1], "torch", *asked)
    assert torch.code == 0, torch.err
    numbers = {key: value for key, value in wanted.items() if "copypaste" not in key}
    assert figures(torch) == numbers  # to the last digit that mmdet gives
    assert numbers["bbox_mAP"] > 0.5
    same_results(theirs, tight=True)
    onnx = exported(name, "--dynamic-export")
    for backend in ("onnxruntime", "openvino"):
        done = test(name, onnx, backend, *asked)
        assert done.code == 0, done.err
        assert figures(done) == pytest.approx(numbers, abs=1e-3)
        same_results(theirs, tight=False)


def same_results(theirs: Any, tight: bool) -> None:
    """`ours.pkl` against mmdet's results: the same form, and what scores enough the same."""
    import mmcv

    ours = mmcv.load("ours.pkl")
    assert len(ours) == len(theirs) == IMAGES
    for mine, image in zip(ours, theirs, strict=True):
        assert type(mine) is type(image)
        pair = isinstance(image, tuple)
        for label in range(4):
            a, b = (one[0][label] if pair else one[label] for one in (mine, image))
            assert a.dtype == np.float32 and a.shape[1] == 5 and (np.diff(a[:, 4]) <= 0).all()
            good, theirs_good = a[:, 4] > 0.3, b[:, 4] > 0.3
            np.testing.assert_allclose(a[good], b[theirs_good], atol=1e-6 if tight else 1e-2)
            if pair:
                masks = mine[1][label][: good.sum()], image[1][label][: good.sum()]
                same_masks(*masks, 1 if tight else 0.98)


def same_masks(ours: list[Any], theirs: list[Any], least_iou: float) -> None:
    from pycocotools import mask as coco_mask

    for one, other in zip(ours, theirs, strict=True):
        assert isinstance(one["counts"], bytes) and one["size"] == other["size"]
        assert coco_mask.iou([one], [other], [0])[0, 0] >= least_iou


def test_a_pickle_is_evaluated_by_mmdets_own_tools(test: Any, drawn: Path) -> None:
    """As tools/analysis_tools/eval_metric.py does."""
    done = test("twostage", weights("twostage")[1], "torch", "--out", "x.pickle", "--eval", "segm")
    import mmcv
    from mmdet.datasets import build_dataset

    settings = mmcv.Config.fromfile(str(DEMO / "twostage.py"))
    settings.merge_from_dict(coco_options(drawn))
    settings.data.test.test_mode = True
    again = build_dataset(settings.data.test).evaluate(mmcv.load("x.pickle"), metric=["segm"])
    assert again["segm_mAP"] == figures(done)["segm_mAP"] > 0


@pytest.mark.parametrize("metric", ["mAP", "recall"])
def test_pascal_voc_by_mmdets_own_protocol(
    test: Any, exported: Any, drawn: Path, metric: str
) -> None:
    onnx = exported("twostage", "--dynamic-export")
    torch = test("twostage", weights("twostage")[1], "torch", "--eval", metric, data=voc_options)
    done = test("twostage", onnx, "onnxruntime", "--eval", metric, data=voc_options)
    assert torch.code == done.code == 0, torch.err + done.err
    assert figures(done) == pytest.approx(figures(torch), abs=1e-3)
    if metric == "mAP":
        # mmdet's own fails on results with masks: the detector without them is its other way.
        _, wanted = mmdet_test("onestage", voc_options(drawn), ["mAP"])
        one = test("onestage", weights("onestage")[1], "torch", "--eval", "mAP", data=voc_options)
        assert figures(one) == pytest.approx(dict(wanted)) and wanted["mAP"] > 0.5
    else:
        assert figures(torch)["recall@100@0.5"] > 0.8


def test_the_workers_of_an_evaluation_end_at_sigterm() -> None:
    from mmdet.core.evaluation import mean_ap

    from farm.single.mmdet import evaluation

    def evaluate(results: list[Any]) -> Any:
        with mean_ap.Pool(1) as pool:
            return pool.apply(signal.getsignal, (signal.SIGTERM,))

    with interrupts.handled(signal.SIGTERM):
        assert evaluation.call(evaluate, [], {}, "--eval") == signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL


def test_a_fixed_engine_letterboxes(test: Any, exported: Any, tool: Tool) -> None:
    """Square images fill 160x160 as PyTorch's do; narrow ones are padded to it, no further off."""
    onnx = exported("onestage")
    built = tool("build", DEMO / "onestage.py", onnx, "--runtime", "openvino", "--verify")
    assert built.code == 0, built.err
    plain = test("onestage", weights("onestage")[1], "torch", "--out", "torch.pkl")
    done = test("onestage", "tmp.trt", "openvino", "--out", "engine.pkl", "--eval", "bbox")
    assert plain.code == done.code == 0, plain.err + done.err
    assert "build" not in done.err  # the engine is what was built; nothing is made anew
    import mmcv

    reference, engine = mmcv.load("torch.pkl"), mmcv.load("engine.pkl")
    for i in range(IMAGES):
        for a, b in zip(reference[i], engine[i], strict=True):
            if i % 2:  # whole images: the very same input
                np.testing.assert_allclose(a[a[:, 4] > 0.5], b[b[:, 4] > 0.5], atol=1e-2)
            assert (b[:, 2] <= (160 if i % 2 else 128)).all()
    assert figures(done)["bbox_mAP"] > 0.5


# Other operations ---------------------------------------------------------------------------


def test_format_only_writes_the_data_sets_own_files(test: Any) -> None:
    done = test(
        "twostage", weights("twostage")[1], "torch", "--format-only",
        "--eval-options", "jsonfile_prefix=made/x",
    )  # fmt: skip
    assert done.code == 0, done.err
    for kind in ("bbox", "segm"):
        assert f"Formatted: made/x.{kind}.json" in done.out
        assert json.loads(Path(f"made/x.{kind}.json").read_text())[0]["image_id"] == 1


def test_what_formats_nothing_to_keep_is_said(test: Any) -> None:
    model = weights("onestage")[1]
    coco = test("onestage", model, "torch", "--format-only")
    assert coco.code == 0 and "keep its files with --eval-options jsonfile_prefix=" in coco.err
    voc = test("onestage", model, "torch", "--format-only", data=voc_options)
    assert voc.code == 0 and "VOCDataset has no format of its own" in voc.err


def test_thresholds_of_overlap_are_taken_as_they_are_given(test: Any) -> None:
    model = weights("onestage")[1]
    done = test("onestage", model, "torch", "--eval", "bbox", "--eval-options", "iou_thrs=[0.5]")
    assert done.code == 0, done.err
    own = figures(test("onestage", model, "torch", "--eval", "bbox"))
    assert figures(done)["bbox_mAP"] == own["bbox_mAP_50"]
    old = test("onestage", model, "torch", "--eval", "bbox", "--options", "iou_thrs=[0.5]")
    assert "warning: --options is deprecated: write --eval-options" in old.err
    assert figures(old) == figures(done)


def test_painted_images_never_go_over_the_data_sets_own(test: Any, drawn: Path) -> None:
    folder = drawn / "coco" / "images"
    before = {path: path.read_bytes() for path in folder.iterdir()}
    Path("link").symlink_to(folder)
    for name in (folder, "link"):
        done = test("onestage", weights("onestage")[1], "torch", "--show-dir", name)
        assert done.code == 2 and "has the data set's own images; give another" in done.err
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_painted_images_go_to_a_folder(test: Any, drawn: Path) -> None:
    model = weights("twostage")[1]
    done = test("twostage", model, "torch", "--show-dir", "painted", "--show-score-thr", "0.5")
    assert done.code == 0, done.err
    assert f"Painted images: {Path.cwd() / 'painted'}" in done.out
    names = sorted(path.name for path in (drawn / "coco" / "images").iterdir())
    assert sorted(path.name for path in Path("painted").iterdir()) == names
    for name in names:
        before = cv2.imread(str(drawn / "coco" / "images" / name))
        after = cv2.imread(f"painted/{name}")
        assert before.shape == after.shape and (before != after).any()


def test_show_without_a_display_writes_and_says_so(test: Any) -> None:
    done = test("onestage", weights("onestage")[1], "torch", "--show")
    assert done.code == 0, done.err
    assert f"No display here: painted images go to {Path.cwd() / 'show'}" in done.err
    assert len(list(Path("show").iterdir())) == IMAGES


def test_masks_with_scores_of_their_own_keep_them() -> None:
    """Mask Scoring R-CNN's form: (boxes, (masks, scores)), as mmdet's `_segm2json` reads it."""
    rle = {"size": [2, 2], "counts": "04"}
    found = Detections(
        np.array([[0, 0, 1, 1], [0, 0, 2, 2], [1, 1, 2, 2]], np.float32),
        np.array([0.9, 0.8, 0.7], np.float32),
        np.array([1, 0, 1]),
        rles=(rle, rle, rle),
        mask_scores=np.array([0.5, 0.4, 0.3], np.float32),
    )
    boxes, (masks, scores) = as_mmdet(found, 3)
    assert [len(one) for one in boxes] == [len(one) for one in masks] == [1, 2, 0]
    np.testing.assert_array_equal(boxes[1][:, 4], np.array([0.9, 0.7], np.float32))
    np.testing.assert_array_equal(scores[1], np.array([0.5, 0.3], np.float32))
    assert masks[0] == [{"size": [2, 2], "counts": b"04"}]


# Wrong input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "specify at least one operation"),
        (("--eval", "bbox", "--format-only"), "--eval and --format-only cannot be both specified"),
        (("--out", "x.json"), "--out: the output file must be a pkl file"),
        (("--eval", "proposal_fast"), "no metric 'proposal_fast'; did you mean 'proposal'?"),
        (("--eval", "bbox", "--eval-options", "iou_thrs=a"), "iou_thrs=a: expected numbers"),
        (("--eval", "bbox", "--eval-options", "jsonfile_prefix=/dev/null/x"), "prefix: /dev/null:"),
        (("--eval", "bbox", "--eval-options", "classwise"), "--eval-options: 'classwise' is not K"),
        (("--show-dir", "/dev/null"), "--show-dir: '/dev/null' is a file; give a folder"),
        (("--out", "/dev/null/x/y.pkl"), "--out: /dev/null/x: "),
        (("--eval", "bbx"), "--eval: CocoDataset has no metric 'bbx'; did you mean 'bbox'?"),
        (("--eval", "segm"), "--eval: the model has no masks"),
        (("--eval", "bbox", "--eval-options", "no=1"), "unexpected keyword argument 'no'"),
        (("--eval", "bbox", "--eval-options", "metric_items=no"), "metric item no is not supp"),
        (("--show", "--show-score-thr", "2"), "--show-score-thr: 2.0: expected 0 to 1"),
    ],
)
def test_wrong_input_is_told_in_words(test: Any, words: tuple[str, ...], told: str) -> None:
    done = test("onestage", weights("onestage")[1], "torch", *words)
    assert done.code == 2 and told in done.err, done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("data.test.ann_file=no.json", "mmdet cannot open its data set (FileNotFoundError: "),
        ("data.test.img_prefix=no/", "12 of 12 images are not there, the first is no/000001.png"),
        ("data.test.classes=[a,b]", "the model has 4 classes, and `data.test.classes` in cfg_"),
    ],
)
def test_a_data_set_that_does_not_fit_is_told_before_the_work(
    tool: Tool, drawn: Path, option: str, told: str
) -> None:
    options = {**coco_options(drawn), **dict([option.split("=", 1)])}
    words = [f"{name}={value}" for name, value in options.items()]
    asked = (*weights("onestage"), "--backend", "torch", "--eval", "bbox")
    done = tool("test", *asked, "--cfg-options", *words)
    assert done.code == 2 and told in done.err, done.err


def test_an_annotation_file_that_is_none_is_told(tool: Tool) -> None:
    Path("torn.json").write_text('{"images": [')
    asked = (*weights("onestage"), "--backend", "torch", "--eval", "bbox")
    done = tool("test", *asked, "--cfg-options", "data.test.ann_file=torn.json")
    assert done.code == 2 and "(JSONDecodeError: Expecting value: line 1 col" in done.err, done.err


def test_an_image_that_cannot_be_decoded_is_told(test: Any, drawn: Path) -> None:
    shutil.copytree(drawn / "coco", "coco")
    Path("coco/images/000002.png").write_bytes(b"no image")
    done = test(
        "onestage",
        weights("onestage")[1],
        "torch",
        "--out",
        "x.pkl",
        data=lambda _: {"data.test.data_root": "coco"},
    )
    assert done.code == 2 and "000002.png: not an image that OpenCV can decode" in done.err
    assert not Path("x.pkl").exists()


def test_a_file_of_another_kind_is_told(test: Any, exported: Any, tool: Tool) -> None:
    onnx = exported("onestage")
    assert tool("build", DEMO / "onestage.py", onnx, "--runtime", "openvino").code == 0
    for model, backend, told in (
        ("tmp.trt", "onnxruntime", "tmp.trt: it is an engine of openvino: give --backend openvino"),
        (weights("onestage")[1], "onnxruntime", "nor is it an engine of this store"),
        (onnx, "torch", "no checkpoint of torch's"),
        (onnx, "tensorflow", "--backend: 'tensorflow' runs no model here; did you mean 'tensorrt'"),
        ("no.onnx", "onnxruntime", "no.onnx does not exist"),
    ):
        done = test("onestage", model, backend, "--eval", "bbox")
        assert done.code == 2 and told in done.err, done.err
    raw = test("onestage", exported("onestage", "--skip-postprocess"), "onnxruntime", "--show")
    assert raw.code == 2 and "it ends at raw outputs and finds no boxes" in raw.err


def test_segm_of_a_file_without_masks_is_refused_before_the_first_image(
    test: Any, exported: Any, tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported("twostage")
    model = onnx.load("twostage.onnx")
    del model.graph.output[2:]
    onnx.save(model, "plain.onnx")
    asked = ("--runtime", "openvino", "--trt-file", "plain.blob")
    assert tool("build", DEMO / "twostage.py", "plain.onnx", *asked).code == 0
    monkeypatch.setattr("farm.single.test._results", None)  # nothing is run
    for file, backend in (("plain.onnx", "onnxruntime"), ("plain.blob", "openvino")):
        done = test("twostage", file, backend, "--eval", "bbox", "segm")
        told = f"farm: --eval: {file} has the outputs dets, labels and no masks, so there is no seg"
        assert done.code == 2 and told in done.err, done.err


def test_soft_masks_of_an_engine_are_refused(test: Any, exported: Any) -> None:
    def soft(drawn: Path) -> dict[str, str]:
        return {**coco_options(drawn), "model.test_cfg.rcnn.mask_thr_binary": "-1"}

    file = exported("twostage")
    done = test("twostage", file, "onnxruntime", "--eval", "segm", data=soft)
    assert done.code == 2 and "twostage.py: mask_thr_binary: -1 is not known here" in done.err


def test_results_that_evaluate_refuses_are_told_by_the_option_that_was_given(test: Any) -> None:
    def torn(*given: Any, **options: Any) -> Any:
        raise KeyError("segm is not in results")

    with mock.patch("mmdet.datasets.CocoDataset.evaluate", torn):
        done = test("onestage", weights("onestage")[1], "torch", "--eval", "bbox")
    assert done.code == 2 and "farm: --eval: " in done.err, done.err
    assert "--eval-options" not in done.err


def test_a_class_that_the_config_lacks_is_told(test: Any, exported: Any) -> None:
    model = onnx.load(exported("onestage"))
    (labels,) = (node for node in model.graph.node if "labels" in node.output)
    labels.output[0] = "own"
    one = onnx.numpy_helper.from_array(np.array(1), "one")
    model.graph.initializer.append(one)
    model.graph.node.append(onnx.helper.make_node("Add", ["own", "one"], ["labels"]))
    onnx.save(model, "off.onnx")
    done = test("onestage", "off.onnx", "onnxruntime", "--eval", "bbox")
    assert done.code == 2 and "off.onnx: it finds class 4, and the config has 4" in done.err


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        ("openvin", "'openvin' runs no model here; did you mean 'openvino'"),
        ("null", "'null' runs no model here; expected one of: onnxruntime, onnxruntime_cuda"),
        ("onnxruntime_cuda", "onnxruntime_cuda needs onnxruntime-gpu, not installed"),
    ],
)
def test_a_backend_that_cannot_run_is_named_before_the_data_set(
    tool: Tool, backend: str, message: str
) -> None:
    if backend == "onnxruntime_cuda" and installed("onnxruntime-gpu"):
        pytest.skip("onnxruntime-gpu is installed")
    done = tool("test", *weights("onestage"), "--backend", backend, "--eval", "bbox")
    assert done.code == 2 and f"farm: --backend: {message}" in done.err, done.err


def test_the_model_is_never_written_over(test: Any) -> None:
    content = weights("onestage")[1].read_bytes()
    Path("model.pkl").write_bytes(content)
    done = test("onestage", "model.pkl", "torch", "--out", "model.pkl")
    assert done.code == 2 and "--out: 'model.pkl' is read by this command" in done.err
    assert Path("model.pkl").read_bytes() == content


def config_with(test: str, drawn: Path) -> str:
    """`own.py`: the demo's detector, with this as `data.test`; `coco`: the drawn data in it."""
    files = {key.rpartition(".")[2]: value for key, value in coco_options(drawn).items()}
    text = f"coco = {{**data['test'], **{files}}}\ndata = dict(test={test})\n"
    Path("own.py").write_text((DEMO / "onestage.py").read_text() + text)
    return "own.py"


def test_data_sets_tested_together_are_checked_as_one(tool: Tool, drawn: Path) -> None:
    own = config_with("[coco, coco]", drawn)
    asked = ("test", own, weights("onestage")[1], "--backend", "torch")
    done = tool(*asked, "--eval", "bbx")
    assert done.code == 2 and "CocoDataset has no metric 'bbx'; did you mean 'bbox'" in done.err
    done = tool(*asked, "--format-only")
    assert done.code == 2 and "--format-only: ConcatDataset cannot; give one data" in done.err
    done = tool(*asked, "--eval", "bbox")
    assert done.code == 0, done.err
    assert figures(done)["0_bbox_mAP"] == figures(done)["1_bbox_mAP"] > 0.5


def test_a_data_set_for_training_is_refused(tool: Tool, drawn: Path) -> None:
    own = config_with("dict(type='RepeatDataset', times=2, dataset=coco)", drawn)
    done = tool("test", own, weights("onestage")[1], "--backend", "torch", "--eval", "bbox")
    assert done.code == 2 and "`data.test` is a RepeatDataset, for training" in done.err


def test_recall_of_any_data_set_in_vocs_form(test: Any) -> None:
    def plain(drawn: Path) -> dict[str, str]:
        return {**voc_options(drawn), "data.test.type": "XMLDataset"}

    done = test("onestage", weights("onestage")[1], "torch", "--eval", "recall", data=plain)
    assert done.code == 0, done.err
    assert figures(done)["recall@100@0.5"] > 0.8


def test_voc_takes_one_metric_at_a_time(test: Any) -> None:
    model = weights("onestage")[1]
    done = test("onestage", model, "torch", "--eval", "mAP", "recall", data=voc_options)
    assert done.code == 2 and "--eval: VOCDataset takes one metric at a time" in done.err
