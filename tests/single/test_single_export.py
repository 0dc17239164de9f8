"""`farm export`: MMDetection's options and defaults, a sweep's artifacts, and the verdict."""

from __future__ import annotations

import argparse
import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import torch
import yaml
from conftest import PROJECT, Tool

from farm.config.loader import load_matrix
from farm.detections import Detections
from farm.errors import InputError
from farm.plan import make_plan
from farm.single import inputs
from farm.single.compare import Answers, print_comparison
from farm.specs import Dims, Ref
from farm.store import Store, as_json, read_record
from farm.store.integrity import of_file

pytestmark = pytest.mark.slow

DEMO = PROJECT / "matrices" / "demo"
ONE = (DEMO / "onestage.py", DEMO / "onestage.pth")
TWO = (DEMO / "twostage.py", DEMO / "twostage.pth")


def stored(out: str) -> Path:
    """The artifact that the tool says it made."""
    return Path(out.split("In the store: ")[1].splitlines()[0])


def axes(path: Path) -> list[Any]:
    """The input's extents: numbers, or names of free axes."""
    shape = onnx.load(path).graph.input[0].type.tensor_type.shape
    return [dim.dim_param or dim.dim_value for dim in shape.dim]


def test_the_defaults_are_mmdetections(tool: Tool) -> None:
    done = tool("export", *ONE)
    assert done.code == 0, done.err
    assert axes(Path("tmp.onnx")) == [1, 3, 800, 1216]
    assert onnx.load("tmp.onnx").opset_import[0].version == 11
    own, kept = onnx.load("tmp.onnx"), onnx.load(stored(done.out))
    assert own.graph.node == kept.graph.node
    assert own.graph.initializer == kept.graph.initializer
    assert not kept.metadata_props  # names are in no key of an export
    values = {one.key: one.value for one in own.metadata_props}
    assert json.loads(values["mean"]) == [123.675, 116.28, 103.53]
    assert values["channel_order"] == "RGB"
    assert "names" not in values and "the config names none" in values["names_unknown"]


@pytest.mark.parametrize("dynamic", [False, True])
def test_it_is_the_step_of_a_sweep_and_done_once(
    tool: Tool, tmp_path: Path, single_results: Path, dynamic: bool
) -> None:
    size = {"opt": "160x160", **({"min": "64x64", "max": "4x3x320x320"} if dynamic else {})}
    matrix = {
        "name": "one",
        "models": {"m": {"config": str(ONE[0]), "checkpoint": str(ONE[1])}},
        "opsets": [13],
        "shapes": {"s": size},
        "runtimes": ["onnxruntime"],
        "dataset": {"type": "synthetic"},
    }
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(matrix))
    (step,) = make_plan(load_matrix(tmp_path / "m.yaml")).of_stage("export")
    asked = ("export", *ONE, "--shape", "160", "--opset-version", "13")
    asked += ("--dynamic-export",) if dynamic else ()
    first = tool(*asked, "--output-file", "made/here.onnx")
    assert first.code == 0 and "done in" in first.err
    store = Store(single_results / "store")
    assert store.record(step.ref) is not None
    assert stored(first.out) == store.path(step.ref) / "model.onnx"
    free = ["batch", 3, "height", "width"] if dynamic else [1, 3, 160, 160]
    assert axes(Path("made/here.onnx")) == free
    again = tool(*asked)
    assert again.code == 0 and "found in the store, nothing to do" in again.err
    assert stored(again.out) == stored(first.out)


def test_what_is_done_to_the_file_does_not_reach_the_store(tool: Tool) -> None:
    done = tool("export", *ONE, "--shape", "160")
    before = stored(done.out).read_bytes()
    with Path("tmp.onnx").open("r+b") as file:  # in place, as simplifiers do
        file.write(b"gone")
    assert stored(done.out).read_bytes() == before


@pytest.mark.parametrize("model", [ONE, TWO], ids=["onestage", "twostage"])
def test_verify_holds_onnx_runtime_against_pytorch(tool: Tool, model: tuple[Path, Path]) -> None:
    done = tool("export", *model, "--shape", "160", "--dynamic-export", "--verify", "--show")
    assert done.code == 0, done.out + done.err
    for size in ("1x3x160x160", "2x3x224x224"):  # mmdet's: half as large again, and its mirror
        assert f"PyTorch and ONNX Runtime agree at {size}: " in done.out
    assert ("masks' IoU" in done.out) == (model is TWO)
    assert "detector (float[batch,3,height,width] images) => (" in done.out
    assert len(done.out) < 1_000_000  # the weights' values are left out
    for name in ("show-pt.png", "show-ort.png"):
        assert f"is drawn in {Path.cwd() / name}" in done.err
        assert cv2.imread(name).shape == (160, 160, 3)
    assert np.array_equal(cv2.imread("show-pt.png"), cv2.imread("show-ort.png"))


def test_verify_fails_where_the_file_says_something_else(tool: Tool, tmp_path: Path) -> None:
    asked = ("export", *ONE, "--shape", "160", "--results", tmp_path / "of its own")
    path = stored(tool(*asked).out)
    model = onnx.load(path)
    bias = next(one for one in model.graph.initializer if one.name.endswith("retina_cls.bias"))
    values = onnx.numpy_helper.to_array(bias) + np.float32(0.05)
    bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
    onnx.save(model, path)
    record = read_record(path.parent / "record.json")  # with its digest, or it is made anew
    record = replace(record, digests={"model.onnx": of_file(path)})
    (path.parent / "record.json").write_text(as_json(record))
    done = tool(*asked, "--verify")
    assert done.code == 1
    assert "PyTorch and ONNX Runtime differ at 1x3x160x160: scores differ by" in done.out


def test_a_batch_is_the_image_and_its_mirror_image() -> None:
    from farm.single.verify import verify
    from farm.specs import ModelFacts

    seen = []

    def run(images: Any) -> Answers:
        seen.append(images)
        return Answers("it", None, {"images": images})

    steps = '[{"type":"LoadImageFromFile"},{"keep_ratio":true,"type":"Resize"}]'
    facts = ModelFacts(("circle",), False, steps)
    assert verify(run, run, [Dims(1, 3, 64, 64), Dims(3, 3, 96, 64)], None, facts, None)
    assert [one.shape for one in seen] == [(1, 3, 64, 64)] * 2 + [(3, 3, 96, 64)] * 2
    first, mirrored, third = seen[-1]
    assert first.std() > 0 and np.array_equal(first, third)
    assert np.array_equal(first[:, :, ::-1], mirrored)


@pytest.mark.parametrize(
    ("reference", "engine", "good", "told"),
    [
        ((), (), False, "a and b: nothing to compare at S: neither finds a box; give an image"),
        ((), (0.1,), False, "a and b differ at S: matched 0.0000 of 1 boxes (1 added)"),
        ((0.1,), (), False, "a and b differ at S: matched 0.0000 of 1 boxes (0 added)"),
        ((), (0.9,), False, "a and b differ at S: matched 0.0000 of 1 boxes (1 added)"),
        ((0.1,), (0.1,), True, "a and b agree at S: 1 boxes that score 0.1 or more"),
    ],
)
def test_no_box_on_either_side_is_nothing_to_compare_and_no_difference(
    capsys: pytest.CaptureFixture[str],
    reference: tuple[float, ...],
    engine: tuple[float, ...],
    good: bool,
    told: str,
) -> None:
    def answers(name: str, scores: tuple[float, ...]) -> Answers:
        boxes = np.tile(np.array([[1, 1, 9, 9]], np.float32), (len(scores), 1))
        labels = np.zeros(len(scores), np.int64)
        return Answers(name, [Detections(boxes, np.array(scores, np.float32), labels)], {})

    assert print_comparison(answers("a", reference), answers("b", engine), "S") == good
    out = capsys.readouterr().out
    assert out.startswith(told) and ("--input-img" in out) == ("nothing" in told)


def test_verify_compares_on_the_image_that_is_given(tool: Tool) -> None:
    cv2.imwrite("plain.png", np.full((90, 120, 3), 127, np.uint8))
    none = tool("export", *ONE, "--shape", "160", "--verify", "--test-img", "plain.png")
    assert "boxes that score 0.3 or more" not in none.out  # there is nothing to see on it
    other = tool("export", *ONE, "--shape", "160", "--verify", "--input-img", "plain.png")
    assert other.out == none.out and other.code == none.code
    drawn = tool("export", *ONE, "--shape", "160", "--verify")
    assert "boxes that score 0.3 or more" in drawn.out


def test_what_is_read_is_never_written_over(tool: Tool) -> None:
    names = ("own.py", "own.pth", "own.png")
    for name, source in zip(names, (*ONE, None), strict=True):
        content = source.read_bytes() if source else cv2.imencode(".png", np.zeros((9, 9)))[1]
        Path(name).write_bytes(bytes(content))
    Path("link.onnx").symlink_to("own.pth")
    before = [Path(name).read_bytes() for name in names]
    for name in (*names, "./own.pth", "link.onnx"):
        asked = ("export", *names[:2], "--shape", "160", "--test-img", "own.png")
        done = tool(*asked, "--output-file", name)
        told = f"--output-file: {name!r} is read by this command; give another file"
        assert done.code == 2 and told in done.err, done.err
    assert [Path(name).read_bytes() for name in names] == before


def test_pickled_objects_are_refused_in_the_tools_own_words(tool: Tool) -> None:
    torch.save({"state_dict": {}, "meta": argparse.Namespace(x=1)}, "objects.pth")
    done = tool("export", ONE[0], "objects.pth", "--shape", "160")
    assert done.code == 2 and "if you trust where it comes from, give --allow-pickle" in done.err


def test_a_pipe_or_device_is_never_replaced(tool: Tool) -> None:
    os.mkfifo("pipe")
    done = tool("export", *ONE, "--shape", "160", "--output-file", "pipe")
    assert done.code == 2 and "--output-file: 'pipe' is a device or a pipe" in done.err
    assert Path("pipe").is_fifo()


def test_a_link_stays_and_its_file_is_written(tool: Tool) -> None:
    Path("link.onnx").symlink_to("real.onnx")
    assert tool("export", *ONE, "--shape", "160", "--output-file", "link.onnx").code == 0
    assert Path("link.onnx").is_symlink() and axes(Path("real.onnx")) == [1, 3, 160, 160]


def test_a_failure_while_writing_leaves_the_old_file_and_nothing_else(
    tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        if path.name.startswith(".tmp.onnx"):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

    Path("tmp.onnx").write_bytes(b"old")
    monkeypatch.setattr("farm.files.atomic.sync", full)
    done = tool("export", *ONE, "--shape", "160")
    assert done.code == 2 and "No space left on device" in done.err
    assert [path.name for path in Path().iterdir()] == ["tmp.onnx"]
    assert Path("tmp.onnx").read_bytes() == b"old"


@pytest.mark.parametrize("option", ["--test-img", "--input-img"])
def test_an_image_that_cannot_be_decoded_is_told_before_the_work(tool: Tool, option: str) -> None:
    Path("text.png").write_bytes(b"no image")
    done = tool("export", *ONE, "--shape", "160", "--verify", option, "text.png")
    assert done.code == 2 and f"farm: {option}: " in done.err
    assert "text.png is not an image that OpenCV can decode" in done.err
    assert not Path("tmp.onnx").exists()


def test_raw_heads_and_a_simplified_graph_agree_too(tool: Tool) -> None:
    asked = ("export", *ONE, "--shape", "160", "--opset-version", "17", "--verify")
    raw = tool(*asked, "--skip-postprocess")
    assert raw.code == 0, raw.out + raw.err
    assert "8 raw outputs within" in raw.out  # four levels of classes and of boxes
    assert "NonMaxSuppression" not in {node.op_type for node in onnx.load("tmp.onnx").graph.node}
    plain = tool(*asked)
    count = len(onnx.load("tmp.onnx").graph.node)
    slim = tool(*asked, "--simplify")
    assert slim.code == plain.code == 0, slim.out + slim.err
    assert len(onnx.load("tmp.onnx").graph.node) < count
    assert len({stored(one.out) for one in (raw, plain, slim)}) == 3


def test_cfg_options_are_merged_over_the_config(tool: Tool) -> None:
    options = ("model.test_cfg.max_per_img=7", "model.test_cfg.nms.iou_threshold=0.4")
    done = tool("export", *ONE, "--shape", "160", "--cfg-options", *options, "--verify")
    assert done.code == 0, done.err
    dets = onnx.load("tmp.onnx").graph.output[0].type.tensor_type.shape
    assert [dim.dim_value for dim in dets.dim] == [1, 7, 5]


def test_key_values_are_read_as_mmcv_reads_them() -> None:
    text = ["a.b=1", "c=1.5", "d=True", "e=[1,2]", "f=1,x", 'g="[(1,2),(3,4)]"', "h=u=v", "i=None"]
    assert inputs.key_values(text, "--cfg-options") == {
        "a.b": 1,
        "c": 1.5,
        "d": True,
        "e": [1, 2],
        "f": [1, "x"],
        "g": [(1, 2), (3, 4)],
        "h": "u=v",
        "i": None,
    }
    for bad in ("novalue", "=", "=1", "a=[1,(2]", "a=nan"):
        with pytest.raises(InputError, match="--cfg-options: "):
            inputs.key_values([bad], "--cfg-options")


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ((*ONE, "--shape", "1", "2", "3"), "--shape: height and width, or one number"),
        ((*ONE, "--shape", "0"), "--shape: 0: height and width are 32 to 16384 pixels"),
        ((*ONE, "--shape", "big"), "invalid int value: 'big'"),
        ((*ONE, "--opset-version", "9"), "--opset-version: 9: expected 11 to 20"),
        ((*ONE, "--output-file", "/"), "--output-file: '/' is a folder; give a file"),
        ((*ONE, "--output-file", "folder/"), "--output-file: 'folder/' is a folder; give a file"),
        ((*ONE, "--output-file", "/dev/null/x/y.onnx"), "--output-file: /dev/null/x: "),
        ((*ONE, "--test-img", "no.jpg"), "--test-img: image "),
        ((*ONE, "--cfg-options", "model"), "--cfg-options: 'model' is not KEY=VALUE"),
        ((*ONE, "--cfg-options", "model.backbone=1"), "mmdet cannot build its model"),
        (("no.py", ONE[1]), "config 'no.py' is neither a file"),
        ((ONE[0], "no.pth"), "no.pth does not exist"),
        ((ONE[0], TWO[1]), "it does not fit the config"),
        ((*ONE, "--mean", "grey"), "argument --mean: invalid float value: 'grey'"),
        ((*ONE, "--verfy"), "unrecognized arguments: --verfy"),
    ],
)
def test_wrong_input_is_told_in_words(tool: Tool, asked: tuple[object, ...], told: str) -> None:
    done = tool("export", *asked)
    assert done.code == 2
    assert told in done.err and "Traceback" not in done.err


@pytest.mark.parametrize(
    ("model", "option", "told"),
    [
        (TWO, "rcnn.mask_thr_binary=-1", "mask_thr_binary: -1 is not known here"),
        (TWO, "rcnn.mask_thr_binary=no", "mask_thr_binary: 'no' is not known here"),
        (TWO, "rpn.nms_pre=abc", "nms_pre: 'abc' is not a whole number"),
        (ONE, "nms_pre=abc", "nms_pre: 'abc' is not a whole number"),
        (ONE, "max_per_img=abc", "max_per_img: 'abc' is not a whole number"),
    ],
)
def test_a_setting_that_no_graph_can_follow_is_named(
    tool: Tool, model: tuple[Path, Path], option: str, told: str
) -> None:
    done = tool("export", *model, "--cfg-options", f"model.test_cfg.{option}", "--shape", "160")
    assert done.code == 1 and told in done.err, done.err
    assert "Error: " not in done.err


@pytest.mark.parametrize(
    ("option", "told"),
    [
        (
            "flip=True",
            "--cfg-options data.test.pipeline.1.flip=False, or in a matrix's cfg_options",
        ),
        ("img_scale=[(160,160),(96,96)]", "--cfg-options data.test.pipeline.1.img_scale='[(W,H)]'"),
    ],
)
def test_a_test_pipeline_of_several_views_is_told_with_the_option_that_mends_it(
    tool: Tool, option: str, told: str
) -> None:
    asked = ("export", *ONE, "--shape", "160", "--cfg-options")
    done = tool(*asked, f"data.test.pipeline.1.{option}")
    assert done.code == 1 and told in done.err, done.err


def test_soft_masks_of_queries_are_refused_too() -> None:
    from farm.sources.mmdet import config, graphs

    model = inputs.detector_spec(
        argparse.Namespace(
            config="queryinst/queryinst_r50_fpn_1x_coco.py",
            cfg_options=["model.test_cfg.rcnn.mask_thr_binary=-1"],
        ),
        str(ONE[1]),
    )
    detector = config.build(config.read(model), "queryinst")
    with pytest.raises(ValueError, match="mask_thr_binary: -1 is not known here"):
        graphs.graph(detector)


def test_a_refused_model_is_a_failure_with_its_reason(tool: Tool, single_results: Path) -> None:
    options = ("--cfg-options", "model.test_cfg.nms.type=nonsense")
    done = tool("export", *ONE, "--shape", "160", *options)
    assert done.code == 1 and "nonsense" in done.err and "Traceback" not in done.err
    (log,) = [line for line in done.err.splitlines() if line.startswith("Its log: ")]
    assert Path(log.removeprefix("Its log: ")).is_file()
    key = Path(log).stem
    assert Store(single_results / "store").record(Ref("export", key)) is None
    again = tool("export", *ONE, "--shape", "160", *options)
    assert again.code == 1 and "failed before; --retry-failed tries it once more" in again.err
    more = tool("export", *ONE, "--shape", "160", *options, "--retry-failed")
    assert more.code == 1 and "failed before" not in more.err


def test_what_mmdetection_deprecates_is_taken_and_changes_nothing(tool: Tool) -> None:
    plain = tool("export", *ONE)
    old = ("--dataset", "coco", "--mean", "0", "0", "0", "--std", "1", "1", "1")
    done = tool("export", *ONE, *old)
    assert (plain.code, done.code) == (0, 0), done.err
    for name in ("--dataset", "--mean", "--std"):
        assert f"warning: {name} is deprecated and not used: the config says" in done.err
    assert stored(done.out) == stored(plain.out)
