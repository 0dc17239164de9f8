"""`farm build`: an ONNX file to an engine, as a sweep would build it, and held against the file."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import yaml
from conftest import PROJECT, Done, Tool

from farm.catalog import RUNTIMES, SOURCES
from farm.config.loader import load_matrix
from farm.plan import make_plan
from farm.plan.content.packages import version
from farm.plan.keys import canonical
from farm.plan.machines import placement
from farm.single import inputs
from farm.single.inputs import fixed_shape, target_here
from farm.specs import Dims, Gpu, ModelFacts
from farm.store import Store

pytestmark = pytest.mark.slow

DEMO = PROJECT / "matrices" / "demo"
CONFIG = DEMO / "onestage.py"


@pytest.fixture
def exported(tool: Tool) -> Any:
    """Exports the demo's detector as `tmp.onnx`: of 160x160, or of any size and batch."""

    def export(*options: str, name: str = "onestage") -> None:
        model = (DEMO / f"{name}.py", DEMO / f"{name}.pth")
        assert tool("export", *model, "--shape", "160", *options).code == 0

    return export


def artifact(done: Done) -> Path:
    return Path(done.out.split("In the store: ")[1].splitlines()[0])


def record(done: Done) -> dict[str, Any]:
    """What the store knows of the engine that was built."""
    text = (artifact(done).parents[1] / "record.json").read_text()
    return dict(json.loads(text))


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("name", ["onestage", "twostage"])
def test_an_engine_gives_what_the_file_gives(
    tool: Tool, exported: Any, runtime: str, name: str
) -> None:
    exported(name=name)
    asked = ("build", DEMO / f"{name}.py", "tmp.onnx", "--runtime", runtime, "--trt-file", "an/e")
    done = tool(*asked, "--verify", "--show")
    assert done.code == 0, done.out + done.err
    assert f"ONNX Runtime and the {runtime} engine agree at 1x3x160x160: " in done.out
    assert "boxes that score 0.3 or more" in done.out
    assert Path("an/e").read_bytes() == artifact(done).read_bytes()
    for picture in ("show-ort.png", f"show-{runtime}.png"):
        assert cv2.imread(picture).shape == (160, 160, 3)
    again = tool(*asked)
    assert again.code == 0 and "found in the store, nothing to do" in again.err
    assert artifact(again) == artifact(done)


def test_it_is_the_step_of_a_sweep(
    tool: Tool, exported: Any, tmp_path: Path, single_results: Path
) -> None:
    exported()
    done = tool("build", CONFIG, "tmp.onnx", "--runtime", "onnxruntime")
    matrix = {
        "name": "one",
        "models": {"m": {"config": str(CONFIG), "checkpoint": str(DEMO / "onestage.pth")}},
        "opsets": [11],
        "shapes": {"s": {"opt": "160x160"}},
        "runtimes": ["onnxruntime"],
        "dataset": {"type": "synthetic"},
    }
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(matrix))
    known = ModelFacts(("circle",), False, "one pipeline")
    (step,) = make_plan(load_matrix(tmp_path / "m.yaml"), lambda key: known).of_stage("build")
    assert Store(single_results / "store").path(step.ref) == artifact(done).parents[1]


def test_a_dynamic_engine_is_held_at_all_its_ends(tool: Tool, exported: Any) -> None:
    exported("--dynamic-export")
    shape = ("--shape", "160", "--min-shape", "128", "--max-shape", "192", "224")
    done = tool("build", CONFIG, "tmp.onnx", "--runtime", "openvino", *shape, "--verify")
    assert done.code == 0, done.out + done.err
    for size in ("160x160", "128x128", "192x224"):
        assert f"agree at 1x3x{size}: " in done.out
    bounds = record(done)["inputs"]["options"]["shape"]
    sizes = {end: (dims["n"], dims["h"], dims["w"]) for end, dims in bounds.items()}
    assert sizes == {"min": (1, 128, 128), "opt": (1, 160, 160), "max": (1, 192, 224)}


def test_the_shape_is_mmdetections_or_the_files_only_one(tool: Tool, exported: Any) -> None:
    exported("--dynamic-export")
    free = tool("build", CONFIG, "tmp.onnx", "--runtime", "null")
    opt = record(free)["inputs"]["options"]["shape"]["opt"]
    assert (opt["h"], opt["w"]) == (400, 600)
    assert Path("tmp.trt").is_file()
    exported()
    own = tool("build", CONFIG, "tmp.onnx", "--runtime", "null")
    opt = record(own)["inputs"]["options"]["shape"]["opt"]
    assert (opt["h"], opt["w"]) == (160, 160)
    other = tool("build", CONFIG, "tmp.onnx", "--runtime", "null", "--shape", "192")
    assert other.code == 2
    assert "takes 1x3x160x160 only, not 1x3x192x192; export it with --dynamic-export" in other.err


def test_verify_fails_for_an_engine_that_finds_something_else(tool: Tool, exported: Any) -> None:
    exported()
    done = tool("build", CONFIG, "tmp.onnx", "--runtime", "null", "--verify")  # finds nothing
    assert done.code == 1
    assert "ONNX Runtime and the null engine differ at 1x3x160x160: matched 0.0" in done.out


def test_raw_heads_build_and_agree(tool: Tool, exported: Any) -> None:
    exported("--skip-postprocess")
    done = tool("build", CONFIG, "tmp.onnx", "--runtime", "openvino", "--verify")
    assert done.code == 0, done.out + done.err
    assert "raw outputs within" in done.out


def test_an_onnx_file_from_elsewhere_is_taken_as_it_is(
    tool: Tool, exported: Any, single_results: Path
) -> None:
    exported("--dynamic-export")
    model = onnx.load("tmp.onnx")
    model.producer_name = "somebody"
    onnx.save(model, "other.onnx")
    done = tool(
        "build", CONFIG, "other.onnx", "--runtime", "onnxruntime", "--shape", "160", "--verify"
    )
    assert done.code == 0, done.out + done.err
    source = record(done)["inputs"]["exported"]["key"]
    kept = single_results / "store" / "export" / source[:2] / source
    assert json.loads((kept / "record.json").read_text())["inputs"]["model"]["source"] == "onnx"
    assert (kept / "model.onnx").read_bytes() == Path("other.onnx").read_bytes()


@pytest.mark.skipif(bool(placement.gpus()), reason="there is a GPU here")
def test_tensorrt_is_the_default_and_what_it_lacks_is_told(tool: Tool, exported: Any) -> None:
    exported()
    if version("tensorrt") == "absent":
        done = tool("build", CONFIG, "tmp.onnx")
        assert done.code == 2 and "tensorrt needs tensorrt, not installed" in done.err
    done = tool("build", CONFIG, "tmp.onnx", "--runtime", "tensorrt_rtx")
    assert done.code == 2 and "needs a GPU, and nvidia-smi finds none" in done.err
    assert "--compute-capability 12.0" in done.err


def test_an_engine_for_a_gpu_that_is_elsewhere(tool: Tool, exported: Any) -> None:
    pytest.importorskip("tensorrt_rtx_bindings")
    exported("--skip-postprocess")
    asked = ("build", CONFIG, "tmp.onnx", "--runtime")
    done = tool(*asked, "tensorrt_rtx", "--compute-capability", "8.9")
    assert done.code == 0, done.out + done.err
    assert json.loads((artifact(done).parent / "engine.json").read_text())["gpu"] is None
    assert record(done)["inputs"]["target"]["compute_capability"] == "8.9"
    assert Path("tmp.trt").read_bytes() == artifact(done).read_bytes()
    other = tool(*asked, "tensorrt_rtx", "--compute-capability", "8.6")
    assert other.code == 0 and artifact(other) != artifact(done)
    for runtime, capability, why in (
        ("tensorrt_rtx", "9.0", "'9.0': tensorrt_rtx builds for 7.5, 8.0, 8.6, 8.9, 12.0"),
        ("onnxruntime", "8.9", "builds on the machine that runs it"),
    ):
        done = tool(*asked, runtime, "--compute-capability", capability)
        assert done.code == 2 and why in done.err and "--compute-capability" in done.err


def test_a_suppression_that_a_runtime_lacks_is_told_with_the_option_that_leaves_it_out(
    tool: Tool, exported: Any
) -> None:
    pytest.importorskip("tensorrt_rtx_bindings")
    exported()
    asked = ("--runtime", "tensorrt_rtx", "--compute-capability", "8.9")
    done = tool("build", CONFIG, "tmp.onnx", *asked)
    assert done.code == 1 and "NonMaxSuppression: end the graph before it" in done.err
    assert "postprocess: host or none" in done.err
    assert "`farm export --skip-postprocess`" in done.err


def test_a_gpu_here_is_the_target_with_all_that_is_in_an_engines_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = Gpu("NVIDIA H200", "9.0", "580.95.05")
    monkeypatch.setattr("farm.plan.machines.placement.gpus", lambda: (here,))
    assert canonical(target_here("tensorrt")) == {
        "device": "H200", "accelerator": "H200", "compute_capability": "9.0", "driver": "580",
    }  # fmt: skip


TALKING = """\
import os
from farm.runtimes.null import NullAdapter
build = NullAdapter.build
def talking(*given):
    os.write(1, b"trying tactics\\n")  # as native libraries do
    build(*given)
NullAdapter.build = talking
"""


def test_verbose_shows_the_builders_log(tool: Tool, exported: Any, tmp_path: Path) -> None:
    exported("--dynamic-export")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(TALKING)
    path = os.pathsep.join((str(tmp_path / "site"), str(PROJECT)))
    asked = ["build", CONFIG, "tmp.onnx", "--runtime", "null", "--shape"]
    for size, times in ((64, ("done in", "found in the store")), (96, ("done in",))):
        for said in times:
            words = [*asked, size, *(("--verbose",) if size == 64 else ())]
            done = subprocess.run(
                [sys.executable, "-m", "farm", *map(str, words)],
                env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0 and said in done.stderr, done.stderr
            assert ("trying tactics" in done.stdout + done.stderr) == (size == 64)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--shape", "1", "2", "3"), "--shape: height and width, or one number for a square"),
        (("--min-shape", "16"), "--min-shape: 16: height and width are 32 to 16384 pixels"),
        (("--max-shape", "128"), "--max-shape does not hold for 160x160, 160x160, 128x128"),
        (("--workspace-size", "0"), "--workspace-size: 0: expected 1 to 1024 GiB"),
        (("--results", "tmp.onnx"), "tmp.onnx/store: Not a directory; give another --results"),
        (
            ("--runtime", "torch"),
            "--runtime: torch builds no engine; there are: onnxruntime, ",
        ),
        (("--runtime", "onnx"), "this farm has no runtime onnx; there are: onnxruntime"),
        (("--trt-file", "/"), "--trt-file: '/' is a folder; give a file"),
        (("--input-img", "no.png"), "--input-img: image "),
        (("--to-rgb", "--std"), "argument --std: expected at least one argument"),
    ],
)
def test_wrong_input_is_told_in_words(
    tool: Tool, exported: Any, options: tuple[str, ...], told: str
) -> None:
    exported("--dynamic-export")
    shape = () if "--shape" in options else ("--shape", "160")
    done = tool("build", CONFIG, "tmp.onnx", "--runtime", "onnxruntime", *shape, *options)
    assert done.code == 2 and told in done.err
    assert "Traceback" not in done.err


def test_the_onnx_file_is_never_written_over(tool: Tool, exported: Any) -> None:
    exported()
    before = Path("tmp.onnx").read_bytes()
    done = tool("build", CONFIG, "tmp.onnx", "--runtime", "null", "--trt-file", "tmp.onnx")
    assert done.code == 2 and "--trt-file: 'tmp.onnx' is read by this command" in done.err
    assert Path("tmp.onnx").read_bytes() == before


def foreign(name: str, dets: Any, labels: Any) -> None:
    """An ONNX file that gives these, whatever it sees."""
    values = {"dets": np.array(dets, np.float32), "labels": np.array(labels, np.int64)}
    given = {one: value for one, value in values.items() if value.size}
    kinds = {"dets": onnx.TensorProto.FLOAT, "labels": onnx.TensorProto.INT64}
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", [f"of_{one}"], [one]) for one in given],
        "g",
        [onnx.helper.make_tensor_value_info("images", kinds["dets"], [1, 3, 160, 160])],
        [onnx.helper.make_tensor_value_info(x, kinds[x], given[x].shape) for x in given],
        [onnx.numpy_helper.from_array(value, f"of_{one}") for one, value in given.items()],
    )
    opset = onnx.helper.make_opsetid("", 13)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8), name)


@pytest.mark.parametrize(
    ("dets", "labels", "told"),
    [
        ([[[1, 1, 9, 9, 0.9]]], [], "it gives dets [1, 1, 5]; expected dets [N, K, 5] and labels"),
        ([[[1, 1, 9, 9]]], [[0]], "it gives dets [1, 1, 4], labels [1, 1]; expected dets [N, K"),
        ([[[1, 1, 9, 9, 0.9]]], [[4]], "it finds class 4, and the config has 4 classes, from 0"),
    ],
)
def test_outputs_that_are_no_detections_are_told(
    tool: Tool, dets: Any, labels: Any, told: str
) -> None:
    foreign("other.onnx", dets, labels)
    asked = ("build", CONFIG, "other.onnx", "--runtime", "onnxruntime", "--verify", "--show")
    done = tool(*asked)
    assert done.code == 2 and f"farm: ONNX Runtime: {told}" in done.err, done.err


def test_a_file_that_is_no_onnx_is_told(tool: Tool) -> None:
    Path("no.onnx").write_bytes(b"no onnx")
    done = tool("build", CONFIG, "no.onnx", "--runtime", "onnxruntime")
    assert done.code == 2 and "no.onnx: not a valid ONNX file" in done.err


def test_a_drawn_or_given_image_is_what_is_compared_on(tool: Tool, exported: Any) -> None:
    exported()
    cv2.imwrite("plain.png", np.full((90, 120, 3), 127, np.uint8))
    asked = ("build", CONFIG, "tmp.onnx", "--runtime", "openvino", "--verify")
    assert "boxes that score 0.3 or more" in tool(*asked).out
    assert "boxes that score 0.3 or more" not in tool(*asked, "--input-img", "plain.png").out


def ends_before_suppression(name: str) -> None:
    """The demo's detector as a sweep's `postprocess: host` exports it."""
    model = inputs.detector_spec(
        argparse.Namespace(config=str(CONFIG), allow_pickle=False), str(DEMO / "onestage.pth")
    )
    mmdet = SOURCES["mmdet"].adapter()
    mmdet.export_onnx(mmdet.load(model), fixed_shape(Dims(1, 3, 160, 160)), 17, Path(name), "host")


def test_a_file_that_ends_before_its_suppression_is_compared_after_it(tool: Tool) -> None:
    ends_before_suppression("host.onnx")
    asked = ("build", CONFIG, "host.onnx", "--runtime")
    done = tool(*asked, "openvino", "--verify", "--show")
    assert done.code == 0, done.out + done.err
    assert "agree at 1x3x160x160: " in done.out and "boxes that score 0.3 or more" in done.out
    for picture in ("show-ort.png", "show-openvino.png"):
        assert cv2.imread(picture).shape == (160, 160, 3)
    other = tool(*asked, "null", "--verify")
    assert other.code == 1 and "differ at 1x3x160x160: matched 0.0" in other.out


@pytest.mark.parametrize(
    ("limit", "told"),
    [
        ({"simplified_dynamic": False}, "not known to take a simplified model with dynamic shapes"),
        ({"max_opsets": (("", 10),)}, "reads opsets up to 10, not 11"),
    ],
)
def test_what_a_sweep_refuses_at_planning_is_refused_before_the_build(
    tool: Tool, exported: Any, monkeypatch: pytest.MonkeyPatch, limit: dict[str, Any], told: str
) -> None:
    """By the catalog's own fields, so that it can be tried where TensorRT is not."""
    exported("--dynamic-export", "--simplify")
    monkeypatch.setitem(
        RUNTIMES.parts, "null", replace(RUNTIMES["null"], packages=("numpy",), **limit)
    )
    asked = ("build", CONFIG, "tmp.onnx", "--runtime", "null", "--shape", "160")
    done = tool(*asked, "--max-shape", "192")
    assert done.code == 2 and "tmp.onnx: null" in done.err and told in done.err, done.err
    assert not Path("tmp.trt").exists()
    fixed_shape = tool(*asked)
    assert fixed_shape.code == (0 if "simplified_dynamic" in limit else 2), fixed_shape.err


def test_verify_reads_the_config_with_its_cfg_options(tool: Tool, exported: Any) -> None:
    scales = "data['test']['pipeline'][1]['img_scale'] = [(160, 160), (96, 96)]\n"
    Path("own.py").write_text(CONFIG.read_text() + scales)
    exported()
    asked = ("build", "own.py", "tmp.onnx", "--runtime", "onnxruntime", "--verify")
    refused = tool(*asked)
    assert refused.code == 1 and "must have one scale" in refused.err
    one = "data.test.pipeline.1.img_scale=[(160,160)]"
    done = tool(*asked, "--cfg-options", one)
    assert done.code == 0 and "agree at 1x3x160x160" in done.out, done.out + done.err
    wrong = tool(*asked, "--cfg-options", "model")
    assert wrong.code == 2 and "--cfg-options: 'model' is not KEY=VALUE" in wrong.err


def test_a_config_that_flips_is_no_hindrance_to_comparing_engines(
    tool: Tool, exported: Any
) -> None:
    flips = "data['test']['pipeline'][1]['flip'] = True\n"
    Path("own.py").write_text(CONFIG.read_text() + flips)
    exported()
    done = tool("build", "own.py", "tmp.onnx", "--runtime", "onnxruntime", "--verify")
    assert done.code == 0 and "agree at 1x3x160x160" in done.out, done.out + done.err


def test_what_mmdetection_deprecates_is_taken_and_changes_nothing(
    tool: Tool, exported: Any
) -> None:
    exported()
    asked = ("build", CONFIG, "tmp.onnx", "--runtime", "onnxruntime", "--shape", "160")
    plain = tool(*asked)
    done = tool(*asked, "--to-rgb", "--dataset", "coco", "--mean", "0", "0", "0", "--std", "1")
    assert (plain.code, done.code) == (0, 0), done.err
    for name in ("--to-rgb", "--dataset", "--mean", "--std"):
        assert f"warning: {name} is deprecated and not used: the config says" in done.err
    assert artifact(done) == artifact(plain)
