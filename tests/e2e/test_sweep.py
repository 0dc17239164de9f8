"""Sweeps that go another way: inline, interrupted, killed, with wrong input or a bad model."""

from __future__ import annotations

import datetime
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from conftest import PROJECT, SMALL_RUNTIMES, Farm, Tool, wait_for

from farm.engine.claims import EXPIRES_S, remove_stale_work
from farm.store import Store

pytestmark = pytest.mark.slow

FIGURES = ["bbox_mAP", "matched_fraction", "max_score_diff", "max_box_diff_px", "onnx_bytes"]


PEAKS = f"""\
name: peaks
models:
  peaks:
    source: onnx
    file: {PROJECT}/matrices/sources/peaks.onnx
    classes: [circle, square, triangle, star]
    preprocess: {{mean: [123.675, 116.28, 103.53], std: [58.395, 57.12, 57.375], pad: 32}}
shapes: {{fixed: {{opt: 160x160}}}}
runtimes: [onnxruntime]
dataset: {{type: synthetic, count: 6, seed: 7, size: 160}}
measure: {{seconds: 0.1, warmup_seconds: 0, min_samples: 10}}
"""
"""A detector that needs no PyTorch, where the model does not matter."""


@pytest.fixture
def peaks(tmp_path: Path) -> Path:
    path = tmp_path / "peaks.yaml"
    path.write_text(PEAKS)
    return path


def table(results: Path) -> pd.DataFrame:
    return pd.read_parquet(results / "leaderboard").set_index("cell")


def test_inline_and_ray_give_the_same_results(
    small_made: Path, small_matrix: Path, tmp_path: Path, farm: Farm
) -> None:
    words = (SMALL_RUNTIMES, "--no-mlflow", "--results", tmp_path / "ray")
    done = farm("run", small_matrix, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    inline, ray = table(small_made), table(tmp_path / "ray")
    pd.testing.assert_frame_equal(inline[FIGURES], ray[FIGURES])
    # What was measured before is in the key of `compare`.
    keys = [name for name in inline if name.endswith("_key") and name != "compare_key"]
    pd.testing.assert_frame_equal(inline[keys], ray[keys])


def test_bf16_that_nobody_asked_for_is_caught(
    small_matrix: Path, small_results: Path, farm: Farm
) -> None:
    """OpenVINO's own default on CPUs that have bf16; the farm sets f32, and verify proves it."""
    import openvino as ov

    if "BF16" not in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this CPU has no bf16: OpenVINO runs f32 whatever it is told")
    silent = "runtime_options={openvino: {INFERENCE_PRECISION_HINT: bf16}}"
    words = ("run", small_matrix, "runtimes=[openvino]", "--results", small_results, "--no-mlflow")
    assert farm(*words).returncode == 0
    done = farm(*words, "--executor", "inline", silent)
    assert done.returncode == 1
    row = table(small_results).iloc[0]
    assert (row.status, row.failed_stage) == ("failed", "verify")
    assert row.max_score_diff > 1e-3 or row.matched_fraction < 0.99
    # A tolerance is read after the run: with a wide one the same engine passes, and nothing runs.
    wide = ("verify.max_score_diff=1", "verify.max_box_diff_px=99", "verify.min_iou=0.5",
            "verify.min_matched_fraction=0", "verify.min_mask_iou=0")  # fmt: skip
    done = farm(*words, silent, *wide)
    assert done.returncode == 0 and "steps to do" not in done.stderr


def start(matrix: Path, results: Path) -> subprocess.Popen[str]:
    """A sweep in a process group of its own, as a terminal would start it."""
    return subprocess.Popen(
        [sys.executable, "-m", "farm", "run", str(matrix), "--results", str(results)],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell that started the tests in the background has it ignored, for all below.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )


def records(results: Path, stage: str = "*") -> set[Path]:
    return set((results / "store").glob(f"{stage}/*/*/record.json"))


def wait_for_record(results: Path, stage: str) -> None:
    wait_for(lambda: records(results, stage), 120)


@pytest.mark.parametrize(
    ("number", "stage", "code"),
    [
        (signal.SIGINT, "prepare", 130),  # SIGTERM: test_interrupted.py
        (signal.SIGKILL, "build", -9),
    ],
)
def test_a_sweep_cut_short_goes_on_from_there(
    peaks: Path, tmp_path: Path, farm: Farm, number: signal.Signals, stage: str, code: int
) -> None:
    results = tmp_path / "r"
    process = start(peaks, results)
    wait_for_record(results, stage)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # Ctrl-C reaches the whole group
    else:
        process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    if code == 130:
        assert "the same command continues from there" in said
        assert "Traceback" not in said
    before = {path: path.stat().st_mtime_ns for path in records(results)}
    assert before and not records(results, "measure")
    done = farm("run", peaks, "--results", results)
    assert done.returncode == 0, done.stdout + done.stderr
    kept = {path: path.stat().st_mtime_ns for path in records(results) if path in before}
    assert kept == before
    assert table(results).status.tolist() == ["ok"]
    if number == signal.SIGKILL:
        remove_what_was_left(results)
    assert list((results / "store" / "tmp").iterdir()) == []


def remove_what_was_left(results: Path) -> None:
    """As the next sweep does, which may begin before the claims of a killed one have expired."""
    deadline = time.monotonic() + 2 * EXPIRES_S
    while any((results / "store" / "tmp").iterdir()) and time.monotonic() < deadline:
        remove_stale_work(Store(results / "store"))
        time.sleep(0.5)


def test_a_model_that_cannot_be_exported_costs_its_own_cells_only(
    small_matrix: Path, small_results: Path, tmp_path: Path, farm: Farm
) -> None:
    config = (PROJECT / "matrices/demo/onestage.py").read_text()
    assert "type='nms'" in config or 'type="nms"' in config
    soft = config.replace("type='nms'", "type='nms_rotated'").replace(
        'type="nms"', 'type="nms_rotated"'
    )
    (tmp_path / "soft.py").write_text(soft)
    weights = PROJECT / "matrices/demo/onestage.pth"
    model = f"models.soft={{config: {tmp_path}/soft.py, checkpoint: {weights}}}"
    words = ("--results", small_results, "--executor", "inline", "--no-mlflow")
    done = farm("run", small_matrix, model, *words)
    assert done.returncode == 1, done.stdout + done.stderr
    rows = table(small_results)
    assert rows.status.to_dict() == {
        "onestage.op17.fixed.fp32.onnxruntime.cpu": "ok",
        "soft.op17.fixed.fp32.onnxruntime.cpu": "failed",
    }
    assert "nms_rotated" in rows.loc["soft.op17.fixed.fp32.onnxruntime.cpu", "reason"]
    assert "failed at export: soft.op17" in done.stdout


def test_a_step_that_fails_is_shown_again_and_tried_on_demand(
    small_matrix: Path, small_results: Path, farm: Farm
) -> None:
    """OpenVINO refuses a property it does not know: a failure that repeats itself."""
    wrong = "runtime_options={openvino: {NO_SUCH_PROPERTY: 1}}"
    words = ("run", small_matrix, "runtimes=[openvino]", wrong, "--results", small_results)
    words = (*words, "--executor", "inline", "--no-mlflow")
    first = farm(*words)
    assert first.returncode == 1 and "failed at build" in first.stdout
    assert "NO_SUCH_PROPERTY" in first.stdout
    again = farm(*words)
    assert again.returncode == 1 and again.stdout == first.stdout
    assert "build onestage" not in again.stderr  # shown from the record, not run
    retried = farm(*words, "--retry-failed")
    assert retried.returncode == 1 and "build onestage" in retried.stderr
    failed = next((small_results / "store/failed").glob("*.log"))
    assert "NO_SUCH_PROPERTY" in failed.read_text()


def test_the_null_runtime_finds_nothing_and_is_not_shipped(
    small_matrix: Path, small_results: Path, farm: Farm
) -> None:
    words = ("--results", small_results)
    sweep = ("runtimes=[null]", "--executor", "inline", "--no-mlflow")
    done = farm("run", small_matrix, *sweep, *words)
    assert done.returncode == 1 and "matched 0.0000" in done.stdout
    best = farm("best", "--target", "cpu", *words)
    assert best.returncode == 1 and best.stdout.startswith("No engine to ship")


def wrong(tool: Tool, matrix: Path, results: Path, *words: str) -> str:
    words = ("--results", results, "--executor", "inline", "--no-mlflow", *words)
    done = tool("run", matrix, *words)
    assert done.code == 2, done.out + done.err
    assert "Traceback" not in done.err
    heavy = records(results) - records(results, "check")
    assert heavy == set(), "wrong input was found after heavy work"
    return done.err


def test_wrong_files_are_told_before_heavy_work(
    small_matrix: Path, tmp_path: Path, tool: Tool
) -> None:
    results = tmp_path / "r"
    weights = (PROJECT / "matrices/demo/onestage.pth").read_bytes()
    (tmp_path / "torn.pth").write_bytes(weights[: len(weights) // 2])
    (tmp_path / "empty.pth").write_bytes(b"")
    other = PROJECT / "matrices/demo/twostage.pth"
    for name, said in (
        (tmp_path / "nowhere.pth", "does not exist"),
        (tmp_path, "is a folder"),
        (tmp_path / "empty.pth", "is empty"),
        (tmp_path / "torn.pth", "torn.pth"),
        (other, "does not fit"),
    ):
        error = wrong(tool, small_matrix, results, f"models.onestage.checkpoint={name}")
        assert said in error and str(name) in error, error
    (tmp_path / "broken.py").write_text("model = dict(\n")
    error = wrong(tool, small_matrix, results, f"models.onestage.config={tmp_path}/broken.py")
    assert "broken.py:1: not valid Python" in error
    error = wrong(tool, small_matrix, results, "models.onestage.config=retinanet/no_such.py")
    assert "nor a config that the installed mmdet ships" in error


def test_wrong_data_sets_are_told_before_heavy_work(
    peaks: Path, tmp_path: Path, tool: Tool
) -> None:
    from farm.datasets import synthetic

    results = tmp_path / "r"
    synthetic.draw(tmp_path / "d", 3, 1, 160)
    good = {"images": tmp_path / "d/images", "annotations": tmp_path / "d/annotations.json"}
    text = good["annotations"].read_text()
    (tmp_path / "torn.json").write_text(text[: len(text) // 2])
    (tmp_path / "other.json").write_text(text.replace('"circle"', '"circus"'))
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "none").mkdir()
    (tmp_path / "few").mkdir()
    first = next(good["images"].iterdir())
    (tmp_path / "few" / first.name).write_bytes(first.read_bytes())
    for change, said in (
        ({"images": tmp_path / "nowhere"}, "does not exist"),
        ({"images": tmp_path / "none"}, "is empty"),
        ({"images": tmp_path / "few"}, "2 of 3 images are not there"),
        ({"annotations": tmp_path / "nowhere.json"}, "does not exist"),
        ({"annotations": tmp_path / "torn.json"}, "not a readable JSON file"),
        ({"annotations": tmp_path / "list.json"}, "not in COCO's format"),
        ({"annotations": tmp_path / "other.json"}, "did you mean 'circus'"),
    ):
        values = {**good, **change}
        dataset = (
            f"{{type: coco, images: {values['images']}, annotations: {values['annotations']}}}"
        )
        error = wrong(tool, peaks, results, f"dataset={dataset}")
        assert said in error, error


def test_a_pickle_is_refused_unless_it_is_allowed(
    small_matrix: Path, tmp_path: Path, tool: Tool
) -> None:
    import torch

    kept = torch.load(PROJECT / "matrices/demo/onestage.pth", weights_only=True)
    torch.save({**kept, "hook": datetime.timedelta(1)}, tmp_path / "pickle.pth")
    checkpoint = f"models.onestage.checkpoint={tmp_path}/pickle.pth"
    error = wrong(tool, small_matrix, tmp_path / "r", checkpoint)
    assert "allow_pickle: true" in error
    words = (checkpoint, "models.onestage.allow_pickle=true", "runtimes=[null]", "--no-mlflow")
    done = tool("run", small_matrix, *words, "--executor", "inline", "--results", tmp_path / "r")
    assert done.code == 1 and "matched 0.0000" in done.out  # it ran; null finds nothing


def test_a_runtime_that_is_not_installed_and_a_cluster_that_is_not_there_are_told(
    small_matrix: Path, tmp_path: Path, farm: Farm
) -> None:
    words = ("run", small_matrix, "--results", tmp_path / "r")
    done = farm(*words, "--address", "127.0.0.1:1")
    assert done.returncode == 2 and "127.0.0.1:1: no Ray cluster answers there" in done.stderr
    hide = (
        "import importlib.metadata as m; real = m.Distribution.from_name\n"
        "def from_name(name):\n    if name.startswith('openvino'):\n"
        "        raise m.PackageNotFoundError(name)\n    return real(name)\n"
        "m.Distribution.from_name = from_name\n"
    )
    (tmp_path / "sitecustomize.py").write_text(hide)
    env = {"PYTHONPATH": f"{tmp_path}:{PROJECT}"}
    done = farm(*words, "runtimes=[openvino]", env=env)
    assert done.returncode == 2 and "openvino not installed" in done.stderr
    assert not records(tmp_path / "r")


def test_a_sweep_runs_once_at_a_time(small_matrix: Path, tmp_path: Path, farm: Farm) -> None:
    process = start(small_matrix, tmp_path / "r")
    wait_for((tmp_path / "r/sweeps/small.json").exists)
    done = farm("run", small_matrix, "--results", tmp_path / "r")
    process.kill()
    process.communicate()
    assert done.returncode == 2 and "already running" in done.stderr


def test_mlflow_out_of_reach_loses_nothing(
    small_matrix: Path, small_results: Path, farm: Farm
) -> None:
    env = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    done = farm("run", small_matrix, "--results", small_results, env=env)
    assert done.returncode == 0
    assert "MLflow at http://127.0.0.1:9 could not be written" in done.stderr
    assert table(small_results).status.tolist() == ["ok"]


def test_a_read_only_place_is_told(small_matrix: Path, tmp_path: Path, farm: Farm) -> None:
    (tmp_path / "file").write_text("")
    done = farm("run", small_matrix, "--results", tmp_path / "file")
    assert done.returncode == 2 and "cannot write here" in done.stderr


def test_store_survives_a_torn_artifact(
    small_matrix: Path, small_results: Path, farm: Farm
) -> None:
    words = ("--results", small_results, "--executor", "inline", "--no-mlflow")
    onnx = next((small_results / "store/export").glob("*/*/model.onnx"))
    whole = onnx.stat().st_size
    onnx.write_bytes(onnx.read_bytes()[:100])
    assert farm("run", small_matrix, *words).returncode == 0
    assert onnx.stat().st_size == whole
    assert remove_stale_work(Store(small_results / "store")) == 0
