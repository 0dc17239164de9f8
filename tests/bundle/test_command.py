"""`farm bundle` and `farm check`: what is written, what is refused, and what is left behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from conftest import PROJECT, Tool, needs_packages

from farm.bundle import detector, folder
from farm.bundle.detector import BundleError, Detector
from farm.datasets import synthetic
from farm.errors import InputError

pytestmark = [pytest.mark.slow, needs_packages]

OPENVINO = "onestage.op17.fixed.fp32.openvino.cpu"
ONNXRUNTIME = "onestage.op17.fixed.fp32.onnxruntime.cpu"
CLASSES = ["circle", "square", "triangle", "star"]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bundles")


@pytest.fixture
def made(tool: Tool, small_made: Path, kept: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of the bundle of a cell, which is written once."""

    def bundle(cell: str) -> Path:
        if not (kept / cell).exists():
            words = ("bundle", cell, kept / cell, "--triton", "--results", small_made)
            done = tool(*words)
            assert done.code == 0, done.err
            assert done.out.startswith(f"Bundle: {kept / cell} (")
            assert "detector.py --check" in done.err
        return Path(shutil.copytree(kept / cell, tmp_path / "bundle"))

    return bundle


def changed(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the content of `bundle.json` as `farm bundle` would have written it."""
    content = detector.read_bundle(bundle)
    change(content)
    content["sha256"] = detector.bundle_digest(content)
    (bundle / "bundle.json").write_text(json.dumps(content))


@pytest.mark.parametrize("cell", [OPENVINO, ONNXRUNTIME])
def test_the_folder_has_everything_and_says_what(cell: str, made: Any, tool: Tool) -> None:
    bundle = made(cell)
    content = detector.read_bundle(bundle)
    files = {str(path.relative_to(bundle)) for path in bundle.rglob("*") if path.is_file()}
    assert files == {*content["files"], "bundle.json"}
    assert content["labels"] == CLASSES and content["labels_from"]
    assert content["input"]["mean"] == [123.675, 116.28, 103.53]
    assert content["input"]["channel_order"] == "RGB"
    assert content["input"]["pad"] == {
        "where": "on the right and below", "value": [0.0] * 3, "when": "after normalising",
    }  # fmt: skip
    after = content["postprocess"]
    assert after["score_threshold"] == 0.05 and after["max_detections"] == 100
    assert content["test_settings"]["nms"] == {"type": "nms", "iou_threshold": 0.5}
    assert content["test_settings"]["nms_pre"] == 1000
    assert 0 < content["figures"]["bbox_mAP"] < 1 and content["figures"]["latency_p50_ms"] > 0
    assert {"bbox_mAP_drop_low", "bbox_mAP_drop_high"} <= {*content["figures"]}
    runtime = cell.split(".")[4]
    pinned = (bundle / "requirements.txt").read_text().splitlines()
    assert {line.partition("==")[0] for line in pinned} == {
        "numpy", "opencv-python-headless", runtime,
    }  # fmt: skip
    assert f"{runtime}=={content['engine']['version']}" in pinned
    assert len(content["sample"]["boxes"]) >= 5
    assert content["sample"]["found_by"] == content["engine"]["file"]
    done = tool("check", bundle)
    assert done.code == 0, done.err
    assert f"files: {len(files) - 1} as they were written" in done.out
    assert f"{len(content['sample']['boxes'])} boxes as expected" in done.out


def test_the_program_of_its_readme_runs(made: Any) -> None:
    bundle = made(OPENVINO)
    text = (bundle / "README.md").read_text()
    program = text.split("```python\n")[1].split("```")[0]
    assert len([line for line in program.splitlines() if line.strip()]) <= 10
    words = [sys.executable, "-c", program]
    done = subprocess.run(words, cwd=bundle, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) >= 5
    assert {line.split()[0] for line in done.stdout.splitlines()} <= {*CLASSES}


def test_the_program_of_the_documentation_runs(made: Any, tmp_path: Path) -> None:
    """The lines that stand for what a user had to write."""
    bundle = made(OPENVINO)
    text = (PROJECT / "docs" / "bundle.md").read_text()
    program = text.split("```python\n")[1].split("```")[0]
    assert len([line for line in program.splitlines() if line]) <= 7
    program = program.replace("image.jpg", str(bundle / "sample.png"))
    program = program.replace('"onestage"', f'"{bundle}"')
    words = [sys.executable, "-c", program]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {line.split()[0] for line in done.stdout.splitlines()} <= {*CLASSES}
    assert len(done.stdout.splitlines()) > 5


def test_the_onnx_file_says_how_to_use_it(made: Any) -> None:
    model = onnx.load(made(ONNXRUNTIME) / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    values = {one.key: one.value for one in model.metadata_props}
    assert json.loads(values["names"]) == CLASSES
    assert json.loads(values["std"]) == [58.395, 57.12, 57.375]
    assert json.loads(values["pad"])["when"] == "after normalising"
    assert values["channel_order"] == "RGB" and json.loads(values["input_range"]) == [0, 255]
    assert {*json.loads(values["outputs"])} == {"dets", "labels"}
    assert "checkpoint" in json.loads(values["made_of"]) and values["farm"]
    axes = {
        one.name: [dim.dim_param or dim.dim_value for dim in one.type.tensor_type.shape.dim]
        for one in model.graph.output
    }
    assert axes == {"dets": [1, 100, 5], "labels": [1, 100]}


def test_triton_finds_its_model_and_labels(made: Any) -> None:
    bundle = made(OPENVINO)
    place = bundle / "triton" / "onestage"
    assert (place / "labels.txt").read_text().split() == CLASSES
    assert (place / "1" / "model.onnx").read_bytes() == (bundle / "model.onnx").read_bytes()
    text = (place / "config.pbtxt").read_text()
    assert 'name: "onestage"\nbackend: "openvino"\n' in text and "max_batch_size: 0\n" in text
    assert 'name: "images"\n    data_type: TYPE_FP32\n    dims: [ 1, 3, 160, 160 ]\n' in text


@pytest.mark.parametrize("name", ["engine/model.blob", "model.onnx", "bundle.json", "sample.png"])
def test_a_changed_byte_is_refused(name: str, made: Any, tool: Tool) -> None:
    bundle = made(OPENVINO)
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"{name}: (changed since it was written|not what)"):
        Detector(bundle)
    done = tool("check", bundle)
    assert done.code == 1 and f"{name}: " in done.err


def test_its_program_may_be_changed_and_check_says_so(made: Any, tool: Tool) -> None:
    bundle = made(ONNXRUNTIME)
    (bundle / "detector.py").open("a").write("# mine\n")
    assert len(Detector(bundle).detect(bundle / "sample.png").boxes)
    done = tool("check", bundle)
    assert done.code == 1 and "detector.py: changed since it was written" in done.err


@pytest.mark.parametrize("cell", [OPENVINO, ONNXRUNTIME])
def test_of_another_version_the_onnx_file_runs_with_a_warning(
    cell: str, made: Any, tool: Tool
) -> None:
    bundle = made(cell)
    here = detector.read_bundle(bundle)["engine"]["version"]
    changed(bundle, lambda content: content["engine"].update(version="1.2.3"))
    both = rf"1\.2\.3, and here is {here}"
    with pytest.warns(UserWarning, match=rf"{both}; model\.onnx runs in its place"):
        other = Detector(bundle)
    assert other.runs == "model.onnx"
    sample = detector.read_bundle(bundle)["sample"]
    detector.compared(other.detect(bundle / sample["image"]), sample)
    with pytest.raises(BundleError, match=both):
        Detector(bundle, fallback=False)
    done = tool("check", bundle)
    assert done.code == 1 and f"1.2.3, and here is {here}" in done.err
    assert "--allow-fallback" in done.err
    done = tool("check", bundle, "--allow-fallback")
    assert done.code == 0, done.err
    assert "runs model.onnx" in done.out and "boxes as expected" in done.out


def test_another_detector_is_noticed_by_the_sample(made: Any, tool: Tool) -> None:
    bundle = made(ONNXRUNTIME)
    changed(bundle, lambda content: content["labels"].reverse())
    done = tool("check", bundle)
    assert done.code == 1 and "sample: " in done.err and "is not found" in done.err


def test_another_schema_is_refused(made: Any) -> None:
    bundle = made(ONNXRUNTIME)
    changed(bundle, lambda content: content.update(schema=99))
    with pytest.raises(BundleError, match="schema 99, and this program reads schema 1"):
        Detector(bundle)


def test_the_sample_may_be_an_image_of_ones_own(
    tool: Tool, small_made: Path, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "own.png"), noise)
    words = ("bundle", ONNXRUNTIME, "deep/er", "--results", small_made, "--sample", "own.png")
    done = tool(*words)
    assert done.code == 0, done.err
    assert tool("check", "deep/er").code == 0
    (tmp_path / "text.png").write_text("no image")
    done = tool(*words[:2], "other", *words[3:-1], "text.png")
    assert done.code == 2 and "not an image that OpenCV can decode" in done.err
    assert sorted(os.listdir(tmp_path)) == ["deep", "own.png", "text.png"]


@pytest.mark.parametrize(
    ("cell", "place", "reason"),
    [
        ("onestage.op17.fixed.fp32.openvin.cpu", "new", f"did you mean {OPENVINO!r}"),
        ("onestage.fixed.fp32.torch.cpu", "new", "engines of torch cannot be bundled; those of"),
        (OPENVINO, "full", "full: it is not empty; give a new or an empty folder"),
        (OPENVINO, "file", "file: {folder}/file is a file; give a new or an empty folder"),
        (OPENVINO, "file/new", "file/new: {folder}/file is a file"),
        ("no.such.cell", "deep/new", "no cell 'no.such.cell'"),
    ],
)
def test_what_cannot_be_bundled_is_refused_and_leaves_nothing(
    cell: str, place: str, reason: str, tool: Tool, small_made: Path, tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    done = tool("bundle", cell, place, "--results", small_made)
    assert done.code == 2, done.err
    assert reason.format(folder=tmp_path) in done.err
    assert sorted(os.listdir(tmp_path)) == ["file", "full"]
    assert os.listdir(tmp_path / "full") == ["mine.txt"]


def test_an_engine_that_was_altered_is_not_bundled(
    tool: Tool, small_results: Path, tmp_path: Path
) -> None:
    (blob,) = small_results.glob("store/build/**/model.blob")
    blob.write_bytes(blob.read_bytes()[:-1] + b"X")
    done = tool("bundle", OPENVINO, "new", "--results", small_results)
    assert done.code == 2 and "model.blob is altered" in done.err
    assert not (tmp_path / "new").exists()


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    with pytest.raises(KeyboardInterrupt), folder.appearing(tmp_path / "here") as part:
        (part / "file").touch()
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == ["here"] and not os.listdir(tmp_path / "here")
    with folder.appearing(tmp_path / "here") as part:
        (part / "file").touch()
    assert os.listdir(tmp_path) == ["here"] and os.listdir(tmp_path / "here") == ["file"]
    with pytest.raises(InputError, match="not empty"):
        folder.empty_folder(str(tmp_path / "here"))


def test_what_is_no_bundle_is_named(tool: Tool, tmp_path: Path) -> None:
    done = tool("check", tmp_path)
    assert done.code == 2 and f"{tmp_path}: no bundle.json in it" in done.err


def test_farm_test_evaluates_a_bundle(made: Any, tool: Tool, tmp_path: Path) -> None:
    bundle = made(OPENVINO)
    synthetic.draw(tmp_path / "data", 6, 7, 160)
    config = PROJECT / "matrices" / "demo" / "onestage.py"
    words = ("test", config, bundle, "--eval", "bbox")
    data = ("--cfg-options", f"data.test.data_root={tmp_path / 'data'}")
    done = tool(*words, *data)
    assert done.code == 0, done.err
    figures = dict(line.split(": ") for line in done.out.splitlines() if ": " in line)
    row = detector.read_bundle(bundle)["figures"]
    assert float(figures["bbox_mAP"]) == pytest.approx(row["bbox_mAP"], abs=6e-5)  # four digits
    done = tool(*words, *data, "--backend", "onnxruntime")
    assert done.code == 2 and "it is a bundle of openvino: leave --backend out" in done.err
    (bundle / "model.onnx").open("ab").write(b"X")
    done = tool(*words, *data)
    assert done.code == 2 and "model.onnx: changed since it was written" in done.err
