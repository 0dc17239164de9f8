"""Bundles of TensorRT: what is written, when the plan runs, and what runs in its place.

There is no GPU here. Where a plan runs, TensorRT and CUDA are the stand-ins of `stand_ins`, which
the farm's own session runs on, too; all that happens without a GPU is tested without them.
"""

from __future__ import annotations

import inspect
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import PROJECT, Tool, needs_packages, run_farm
from onnx import TensorProto, helper

from farm.bundle import detector
from farm.bundle.cells import finished_cell
from farm.bundle.detector import BundleError, Detector
from farm.bundle.sample import found_in_the_sweep
from farm.catalog import runtime_of
from farm.cli.results import Results
from farm.datasets import synthetic
from farm.datasets.prepared import Prepared
from farm.runtimes.tensorrt import cuda
from farm.runtimes.tensorrt.options import parse
from farm.specs import EngineOptions, Ref
from farm.stages.inference import decoding_of, detect

STAND_INS = PROJECT / "tests" / "bundle" / "stand_ins"
H200 = "NVIDIA H200, 9.0"
CELL = "onestage.op17.fixed.fp32.tensorrt.h200"
FACTS = {
    "library": "tensorrt", "version": "10.13.0", "compute_capability": "9.0", "gpu": "NVIDIA H200",
    "driver": None, "precision": "fp32", "cuda": "13.0",
}  # fmt: skip
ENGINE = {
    **FACTS, "file": "engine/engine.plan", "runtime": "tensorrt", "device": "NVIDIA H200",
    "version_compatible": False, "hardware_compatible": False, "properties": {},
}  # fmt: skip


# ---------------------------------------------------------------- a store with a cell of TensorRT


@pytest.fixture(scope="module")
def kept(small_made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results whose cell of ONNX Runtime has become one of TensorRT: its plan is the ONNX file."""
    place = Path(shutil.copytree(small_made, tmp_path_factory.mktemp("gpu") / "r"))
    results = Results.at(str(place))
    row = next(one for one in results.rows() if one["runtime"] == "onnxruntime")
    build = _built(results, row)
    cell = {
        "cell": CELL, "target": "h200", "runtime": "tensorrt", "runtime_version": "10.13.0",
        "device": build.node["device"], "build_key": build.key,
    }  # fmt: skip
    results.write([{**row, **cell}], row["sweep"])
    return place


def _built(results: Results, row: dict[str, Any]) -> Any:
    store = results.store()
    old = store.record(Ref("build", row["build_key"]))
    assert old is not None
    key = sha256(b"tensorrt").hexdigest()
    folder = store.work_folder(key)
    (folder / "engine").mkdir()
    exported = store.files(Ref("export", row["export_key"])) / "model.onnx"
    shutil.copyfile(exported, folder / "engine" / "engine.plan")
    (folder / "engine" / "engine.json").write_text(json.dumps(FACTS))
    options = [["optimization_level", 2], ["tactic_sources", ["cublas"]], ["timing_cache", {}]]
    inputs = old.inputs | {
        "options": old.inputs["options"] | {"runtime": "tensorrt", "options": options}
    }
    node = {"device": "NVIDIA H200 (9.0, driver 580)", "host": "gpu", "python": "3.12.1"}
    versions = {"tensorrt": "10.13.0"}
    record = replace(old, key=key, label=CELL, inputs=inputs, node=node, toolchain=versions)
    store.publish(folder, record)
    return record


@pytest.fixture
def bundle(tool: Tool, kept: Path, tmp_path: Path) -> Path:
    """The bundle of that cell, written on a machine without a GPU and without TensorRT."""
    done = tool("bundle", CELL, "new", "--triton", "--results", kept)
    assert done.code == 0, done.err
    return tmp_path / "new"


def environment(gpu: str | None, version: str = "10.13.0") -> dict[str, str]:
    """Of a process that finds the stand-ins, and a GPU."""
    path = os.pathsep.join([str(STAND_INS), os.environ.get("PYTHONPATH", "")])
    found = {**os.environ, "PYTHONPATH": path, "FARM_TEST_TENSORRT": version}
    return found | ({"FARM_TEST_GPU": gpu} if gpu else {})


def program(bundle: Path, *words: str, **env: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(bundle / "detector.py"), *words],
        env=environment(**env), capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.slow
@needs_packages
def test_a_bundle_is_written_without_a_gpu(bundle: Path, tool: Tool) -> None:
    content = detector.read_bundle(bundle)
    files = {str(path.relative_to(bundle)) for path in bundle.rglob("*") if path.is_file()}
    assert {"engine/engine.plan", "engine/engine.json", "model.onnx", "detector.py"} < files
    engine = content["engine"]
    assert engine["file"] == "engine/engine.plan" and engine["version"] == "10.13.0"
    assert engine["gpu"] == "NVIDIA H200" and engine["compute_capability"] == "9.0"
    assert engine["device"] == "NVIDIA H200 (9.0, driver 580)" and engine["cuda"] == "13.0"
    assert engine["properties"] == {"optimization_level": 2, "tactic_sources": ["cublas"]}
    assert content["sample"]["found_by"] == "engine/engine.plan"  # in the sweep
    assert len(content["sample"]["boxes"]) >= 5
    pinned = (bundle / "requirements.txt").read_text()
    assert "tensorrt==10.13.0\ncuda-bindings>=12.6\nonnxruntime>=1.20" in pinned
    text = (bundle / "README.md").read_text()
    assert "TensorRT 10.13.0 on NVIDIA H200 (9.0, driver 580)" in text
    assert "stand-ins of TensorRT and CUDA,\nnever on a GPU" in text
    config = (bundle / "triton" / "onestage" / "config.pbtxt").read_text()
    assert 'backend: "tensorrt"\ndefault_model_filename: "model.plan"\n' in config
    plan = (bundle / "triton" / "onestage" / "1" / "model.plan").read_bytes()
    assert plan == (bundle / "engine" / "engine.plan").read_bytes()


@pytest.mark.slow
@needs_packages
def test_without_tensorrt_the_onnx_file_runs_or_both_are_named(bundle: Path, tool: Tool) -> None:
    reason = r"built by tensorrt 10\.13\.0 for NVIDIA H200, and here is no TensorRT"
    instead = r"model\.onnx runs in its place by onnxruntime on the CPU"
    with pytest.warns(
        UserWarning, match=rf"engine/engine\.plan is not used: .*{reason}.*{instead}"
    ):
        other = Detector(bundle)
    assert other.runs == "model.onnx"
    sample = detector.read_bundle(bundle)["sample"]
    detector.compared(other.detect(bundle / sample["image"]), sample)
    with pytest.raises(BundleError, match=rf"engine\.plan cannot be used here: .*{reason}"):
        Detector(bundle, fallback=False)
    done = tool("check", bundle)
    assert done.code == 1 and "here is no TensorRT" in done.err and "--allow-fallback" in done.err
    done = tool("check", bundle, "--allow-fallback")
    assert done.code == 0, done.err
    assert "versions: onnxruntime " in done.out and "runs model.onnx" in done.out
    assert "boxes as expected" in done.out


@pytest.mark.slow
@needs_packages
def test_farm_test_evaluates_it_without_tensorrt(bundle: Path, tool: Tool, tmp_path: Path) -> None:
    """By its ONNX file, which it says."""
    synthetic.draw(tmp_path / "data", 6, 7, 160)
    config = PROJECT / "matrices" / "demo" / "onestage.py"
    data = ("--cfg-options", f"data.test.data_root={tmp_path / 'data'}")
    done = tool("test", config, bundle, "--eval", "bbox", *data)
    assert done.code == 0, done.err
    assert "model.onnx runs in its place by onnxruntime on the CPU" in done.err
    figures = dict(line.split(": ") for line in done.out.splitlines() if ": " in line)
    row = detector.read_bundle(bundle)["figures"]
    assert float(figures["bbox_mAP"]) == pytest.approx(row["bbox_mAP"], abs=6e-5)


@pytest.mark.slow
@needs_packages
def test_boxes_that_the_sweep_has_kept_are_the_expected_ones(kept: Path, tmp_path: Path) -> None:
    """Of images that it has verified, the first four; of others those of the ONNX file."""
    cell = finished_cell(CELL, Results.at(str(kept)), None)
    runtime = runtime_of("onnxruntime")
    own = EngineOptions("onnxruntime", "fp32", cell.options.shape)
    shutil.copyfile(cell.onnx, tmp_path / "model.onnx")
    prepared = Prepared(cell.artifact("prepare"))
    session = runtime.open_engine(tmp_path, own, 1)
    for index in range(4):
        part = prepared.subset([index])
        (found,) = detect(
            session, [(part.image(0)[None], part.metas)], decoding_of(cell.facts, True)
        )
        kept_ones = found_in_the_sweep(cell, index)
        assert kept_ones is not None and len(kept_ones.boxes) == len(found.boxes) > 0
        assert np.allclose(kept_ones.boxes, found.boxes, atol=0.01)
        assert np.allclose(kept_ones.scores, found.scores, atol=1e-4)
        assert kept_ones.names == [cell.facts.classes[label] for label in found.labels]
    assert found_in_the_sweep(cell, 4) is None
    for frame, count in {
        "box": len(found),
        "image": len(found),
        "segments": 0,
        "queries": 0,
    }.items():
        masked = replace(cell, facts=replace(cell.facts, masks=True, mask_frame=frame))
        kept_ones = found_in_the_sweep(masked, 3)
        assert (len(kept_ones.boxes) if kept_ones else 0) == count, frame


@pytest.mark.slow
@needs_packages
def test_of_another_image_they_are_those_of_the_onnx_file(
    kept: Path, bundle: Path, tool: Tool, tmp_path: Path
) -> None:
    shutil.copyfile(bundle / "sample.png", "mine.png")
    done = tool("bundle", CELL, "other", "--results", kept, "--sample", "mine.png")
    assert done.code == 0, done.err
    sample = detector.read_bundle(tmp_path / "other")["sample"]
    assert sample["found_by"] == "model.onnx"
    detector.compared(Detector(bundle).detect(bundle / "sample.png"), sample)


@pytest.mark.slow
@needs_packages
def test_the_options_of_its_record_open_the_engine(kept: Path) -> None:
    """Of those that only a build uses, a timing cache has no value in a record."""
    found = finished_cell(CELL, Results.at(str(kept)), None)
    own = parse(found.options)
    assert own.optimization_level == 2 and own.timing_cache is None


@pytest.mark.slow
@needs_packages
@pytest.mark.parametrize("version", ["8.6.0", "10.13.0"])
def test_the_program_runs_the_plan_on_its_gpu(bundle: Path, version: str) -> None:
    """By the stand-ins; one that computes something else fails the check."""
    content = detector.read_bundle(bundle)
    content["engine"]["version"] = version
    content["sha256"] = detector.bundle_digest(content)
    (bundle / "bundle.json").write_text(json.dumps(content))
    done = program(bundle, "--check", gpu=H200, version=version)
    assert done.returncode == 0, done.stderr
    assert f"versions: tensorrt {version}; runs engine/engine.plan" in done.stdout
    assert "boxes as expected" in done.stdout


@pytest.mark.slow
@needs_packages
def test_where_a_gpu_is_the_farm_and_the_program_find_the_same(kept: Path, tmp_path: Path) -> None:
    """A bundle is refused that finds other boxes than the farm's own session."""
    words = ("bundle", CELL, tmp_path / "new", "--results", kept)
    done = run_farm(*words, env=environment(H200))
    assert done.returncode == 0, done.stderr
    content = detector.read_bundle(tmp_path / "new")
    assert content["sample"]["found_by"] == "engine/engine.plan"


@pytest.mark.slow
@needs_packages
def test_an_engine_with_plug_ins_is_refused(kept: Path, tool: Tool, tmp_path: Path) -> None:
    results = Results.at(str(shutil.copytree(kept, tmp_path / "r")))
    store = results.store()
    (row,) = results.rows()
    ref = Ref("build", row["build_key"])
    record = store.record(ref)
    assert record is not None
    record.inputs["options"]["options"] = [["plugins", [{"path": "/own.so", "digest": ""}]]]
    folder = store.work_folder(ref.key)
    shutil.copytree(store.files(ref) / "engine", folder / "engine")
    store.remove(ref)
    store.publish(folder, replace(record, digest=""))
    done = tool("bundle", CELL, "new", "--results", tmp_path / "r")
    assert done.code == 2 and "needs plug-in libraries" in done.err


# ---------------------------------------------------------------- what fits


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """TensorRT, CUDA and an H200 in this process."""
    ours = ("tensorrt", "cuda", "cuda.bindings", "cuda.bindings.driver", "cuda.bindings.runtime")
    before = {name: sys.modules.pop(name, None) for name in ours}
    monkeypatch.syspath_prepend(STAND_INS)
    monkeypatch.setenv("FARM_TEST_GPU", H200)
    yield
    for name, module in before.items():
        sys.modules.pop(name, None)
        if module is not None:
            sys.modules[name] = module


@pytest.mark.parametrize(
    ("gpu", "others", "reason"),
    [
        (H200, {}, None),
        (H200, {"version": "8.6.0"}, "it was built by tensorrt 8.6.0, and here is 10.13.0"),
        (H200, {"version": "10.9.0", "version_compatible": True}, None),
        (
            "NVIDIA L4, 8.9", {},
            "it was built for NVIDIA H200 (compute capability 9.0), and here is NVIDIA L4"
            " (compute capability 8.9)",
        ),
        ("NVIDIA H100, 9.0", {}, "and here is NVIDIA H100 (compute capability 9.0)"),
        ("NVIDIA L4, 8.9", {"hardware_compatible": True}, None),
        ("", {}, "and here is no NVIDIA GPU: cuInit of CUDA failed: CUDA_ERROR_NO_DEVICE"),
        (None, {"hardware_compatible": True}, "no NVIDIA GPU: Failed to dlopen libcuda.so.1"),
    ],
)  # fmt: skip
def test_a_plan_fits_its_version_and_gpu_alone(
    gpu: str | None, others: dict[str, Any], reason: str | None,
    stand_ins: None, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if gpu is None:
        monkeypatch.delenv("FARM_TEST_GPU")
    else:
        monkeypatch.setenv("FARM_TEST_GPU", gpu)
    found = detector.misfit({**ENGINE, **others})
    assert found is None if reason is None else reason in str(found)


def test_where_no_gpu_is_seen_the_real_bindings_say_so() -> None:
    """In a process that sees none, since CUDA knows the GPUs of this one by now, if it has any."""
    pytest.importorskip("cuda.bindings")
    code = f"from farm.bundle import detector; print(detector._gpu_misfit({ENGINE!r}))"
    variables = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    variables.pop("FARM_TEST_GPU", None)
    found = subprocess.run(
        [sys.executable, "-c", code], env=variables, cwd=PROJECT,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "(compute capability 9.0), and here is no NVIDIA GPU: " in found.stdout, found.stderr


def test_a_build_writes_down_what_cuda_the_driver_supports(
    stand_ins: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cuda.bindings import driver, runtime

    monkeypatch.setattr(cuda, "bindings", lambda: (driver, runtime))
    assert cuda.supported_version() == "13.0"


# ---------------------------------------------------------------- a session


def plan_file(path: Path) -> Path:
    """An ONNX file for a plan: the images' places of values over 0, as many as there are, and
    their double."""
    nodes = [
        helper.make_node("Relu", ["images"], ["over"]),
        helper.make_node("NonZero", ["over"], ["places"]),
        helper.make_node("Add", ["images", "images"], ["double"]),
    ]
    axes = ["n", 3, "h", "w"]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, axes)
    places = helper.make_tensor_value_info("places", TensorProto.INT64, [4, "k"])
    double = helper.make_tensor_value_info("double", TensorProto.FLOAT, axes)
    graph = helper.make_graph(nodes, "plan", [images], [places, double])
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


@pytest.mark.parametrize("version", ["8.6.0", "10.13.0"])
def test_outputs_of_any_size_are_read_whole(
    version: str, stand_ins: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """More and fewer places than before, none, and images of another size."""
    monkeypatch.setenv("FARM_TEST_TENSORRT", version)
    session = detector.TensorRt(plan_file(tmp_path / "p"), {"engine": ENGINE}, None, True)
    random = np.random.default_rng(0)
    for size, over in ((8, 0.5), (16, 0.9), (16, 0.1), (8, 0.0)):
        images = np.where(random.random((1, 3, size, size)) < over, 1, -1).astype(np.float32)
        found = session.run(images)
        assert np.array_equal(found["places"], np.nonzero(images > 0))
        assert found["places"].dtype == (np.int32 if version == "8.6.0" else np.int64)
        assert np.array_equal(found["double"], images * 2)


def test_memory_of_the_gpu_is_freed_with_its_session(stand_ins: None, tmp_path: Path) -> None:
    session = detector.TensorRt(plan_file(tmp_path / "p"), {"engine": ENGINE}, None, True)
    session.run(np.ones((1, 3, 8, 8), np.float32))
    from cuda.bindings import runtime

    assert len(runtime.allocated) == 3
    del session
    assert not runtime.allocated


def test_a_plan_that_does_not_load_or_take_a_size_is_named(stand_ins: None, tmp_path: Path) -> None:
    (tmp_path / "torn").write_bytes(b"torn")
    with pytest.raises(BundleError, match="does not load; TensorRT's messages are on stderr"):
        detector.TensorRt(tmp_path / "torn", {"engine": ENGINE}, None, True)
    session = detector.TensorRt(plan_file(tmp_path / "p"), {"engine": ENGINE}, None, True)
    with pytest.raises(BundleError, match=r"does not take images of \(1, 4, 8, 8\)"):
        session.run(np.ones((1, 4, 8, 8), np.float32))


# ---------------------------------------------------------------- the stand-ins


@pytest.mark.parametrize("name", ["driver", "runtime"])
def test_cudas_stand_ins_have_names_and_values_of_the_real_ones(name: str) -> None:
    real = pytest.importorskip(f"cuda.bindings.{name}")
    own = _names_of(STAND_INS / "cuda" / "bindings" / f"{name}.py")
    for one, value in own.items():
        assert hasattr(real, one), one
        if inspect.isclass(value):
            known = {member.name: int(member) for member in value}
            assert known == {member: int(getattr(getattr(real, one), member)) for member in known}


def test_tensorrts_stand_in_has_names_of_the_real_one() -> None:
    """TensorRT-RTX has the interface of TensorRT 10 and 11, by other names of two classes."""
    real = pytest.importorskip("tensorrt_rtx_bindings")
    text = (STAND_INS / "tensorrt.py").read_text()
    for name, holder in (("Engine", "ICudaEngine"), ("Context", "IExecutionContext")):
        body = text.split(f"class {name}:")[1].split("\nclass ")[0]
        methods = [line.split("(")[0].split()[-1] for line in body.splitlines() if "def " in line]
        public = [one for one in methods if not one.startswith("_")]
        assert len(public) >= 5
        for one in public:
            assert hasattr(getattr(real, holder), one), one
    text = real.IOutputAllocator.__doc__  # which names the methods that it calls
    assert "reallocate_output_async" in text and "notify_shape" in text
    assert hasattr(real.ICudaEngine, "num_io_tensors") and real.TensorIOMode.INPUT


def _names_of(path: Path) -> dict[str, Any]:
    """Functions and enums of a module that the real one has, too."""
    found: dict[str, Any] = {}
    exec(compile(path.read_text(), str(path), "exec"), found)
    kinds = ("cuda", "cu", "CU")
    return {
        name: value
        for name, value in found.items()
        if name.startswith(kinds) and (inspect.isfunction(value) or hasattr(value, "__members__"))
    }
