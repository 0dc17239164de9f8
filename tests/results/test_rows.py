"""Rows from records: every column's value, statuses, and what stands beside other rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import farm
from farm.config.loader import load_matrix
from farm.config.measuring import CompareSpec
from farm.config.schema import VerifySpec
from farm.plan import STAGES, Plan, Step, make_plan
from farm.plan.comparisons import Candidate, with_comparisons
from farm.results import leaderboard
from farm.results.columns import COLUMNS
from farm.results.kept.files import places
from farm.results.rows import make_rows
from farm.specs import ModelFacts
from farm.store import Failure, Record, Store

MATRIX = """\
name: own
models: {abc: {config: c.py, checkpoint: c.pth}}
opsets: [17]
shapes: {fixed: {opt: 160x160}}
precisions: [fp32, fp16]
runtimes: [openvino]
dataset: {type: synthetic, count: 6}
"""
FACTS = ModelFacts(("circle",), False, "[]")
SPEED = {
    "latency_p50_ms": 10.0, "latency_p90_ms": 12.0, "latency_p95_ms": 13.0, "latency_p99_ms": 14.0,
    "latency_mean_ms": 11.0, "latency_min_ms": 9.0, "latency_cov": 0.1, "throughput_per_s": 100.0,
    "samples": 50, "threads": 2, "batch": 1, "stable": True, "input_shape": "1x3x160x160",
}  # fmt: skip
FIGURES: dict[str, dict[str, Any]] = {
    "check": {"classes": ["circle"], "masks": False, "pipeline": "[]"},
    "prepare": {"images": 6},
    "reference": {"box_ap": 0.75, "mask_ap": 0.5},
    "export": {"onnx_bytes": 9, "onnx_nodes": 1, "opset": 17},
    "convert": {"onnx_bytes": 5, "onnx_nodes": 2, "opset": 17, "kept_fp32": ["a", "b"]},
    "build": {"build_s": 1.5, "engine_bytes": 7},
    "verify": {"images": 6, "boxes": 1},
    "evaluate": {
        "box_ap": 0.7, "box_ap50": 0.9, "mask_ap": 0.25, "images": 6, "images_per_s": 8.0,
        "box_ap_by_class": {"circle": 0.7, "star": None}, "box_ap_drop_low": 0.03,
        "box_ap_drop_high": 0.08, "mask_ap_drop_low": -0.01, "mask_ap_drop_high": 0.5,
    },
    "measure": SPEED,
    "compare": {},
}  # fmt: skip
PAIRS = {
    "reference_score": [0.9, 0.8], "engine_score": [0.9005, 0.8], "iou": [1.0, 0.99],
    "box_diff_px": [0.25, 0.0], "mask_iou": [0.999, 1.0], "mask_score_diff": [0.0, 0.0],
}  # fmt: skip


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    for name, content in (("c.py", "model = 1\n"), ("c.pth", "x"), ("m.yaml", MATRIX)):
        (tmp_path / name).write_text(content)
    return make_plan(load_matrix(tmp_path / "m.yaml"), lambda _: FACTS)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def finish(store: Store, step: Step, device: str = "a cpu", **figures: Any) -> None:
    folder = store.work_folder(step.key)
    if step.stage == "verify":
        np.savez(folder / "pairs.npz", **{k: np.array(v, np.float32) for k, v in PAIRS.items()})
    if step.stage in ("export", "convert"):
        (folder / "model.onnx").write_text("onnx")
    if step.stage == "build":
        (folder / "engine").write_text("engine")
    seconds = float(STAGES.index(step.stage) + 1)
    tools = {"openvino": "2026.1", step.stage: "1"}
    store.publish(folder, Record(
        step.stage, step.key, step.label, {**FIGURES[step.stage], **figures}, {}, tools, seconds,
        100, {"host": "h", "device": device},
    ))  # fmt: skip


def steps_of(plan: Plan, precision: str) -> dict[str, Step]:
    (cell,) = (one for one in plan.cells if one.cell.precision == precision)
    return {stage: plan.steps[key] for stage, key in cell.steps.items()}


def finish_all(plan: Plan, store: Store, *but: str) -> None:
    for step in plan.steps.values():
        if step.stage not in but:
            finish(store, step)


def rows_of(plan: Plan, store: Store, **more: Any) -> dict[str, dict[str, Any]]:
    found = make_rows(plan, store, VerifySpec(), more.pop("failed", {}), **more)
    return {row["precision"]: row for row in found}


def test_every_column_of_a_finished_cell(plan: Plan, store: Store) -> None:
    finish_all(plan, store)
    found = rows_of(plan, store)["fp16"]
    assert list(found) == list(COLUMNS)
    keys = {f"{stage}_key": step.key for stage, step in steps_of(plan, "fp16").items()}
    expected = {
        **dict.fromkeys(COLUMNS), **keys, **SPEED,
        "cell": next(one.cell.id for one in plan.cells if one.cell.precision == "fp16"),
        "sweep": "own", "model": "abc", "opset": 17, "shape": "fixed", "postprocess": "graph",
        "precision": "fp16", "runtime": "openvino", "target": "cpu", "status": "ok",
        "box_ap": 0.7, "box_ap50": 0.9, "mask_ap": 0.25, "box_ap_reference": 0.75,
        "mask_ap_reference": 0.5, "mask_ap_drop": 0.25, "matched_fraction": 1.0,
        "box_ap_by_class": '{"circle": 0.7, "star": null}', "box_ap_drop_low": 0.03,
        "box_ap_drop_high": 0.08, "mask_ap_drop_low": -0.01, "mask_ap_drop_high": 0.5,
        "evaluate_images_per_s": 8.0, "evaluate_images": 6, "export_s": 4.0, "convert_s": 5.0,
        "kept_fp32": 2, "build_s": 1.5, "onnx_bytes": 5, "engine_bytes": 7, "peak_host_bytes": 100,
        "device": "a cpu", "host": "h", "runtime_version": "2026.1", "origin": "here",
        "farm_version": farm.__version__, "dataset": found["dataset"],
        "latency_source": "measure",
        "toolchain": "export 1; measure 1; openvino 2026.1",
        "box_ap_drop": pytest.approx(0.05), "max_score_diff": pytest.approx(5e-4, rel=1e-3),
        "max_box_diff_px": pytest.approx(0.25), "min_mask_iou": pytest.approx(0.999),
    }  # fmt: skip
    assert found == expected and len(found["dataset"]) == 64
    fp32 = rows_of(plan, store)["fp32"]
    assert fp32["onnx_bytes"] == 9 and fp32["kept_fp32"] is None and fp32["convert_s"] is None
    assert fp32["speedup_vs_fp32"] is None and fp32["convert_key"] is None


def compared(plan: Plan, store: Store, **own: Any) -> Plan:
    """The plan with a comparison of its two cells, whose figures of fp16 are `own`."""
    fp32, fp16 = sorted(plan.cells, key=lambda one: one.cell.precision, reverse=True)
    group = [Candidate(fp32), Candidate(fp16, fp32)]
    found = with_comparisons(plan, [group], CompareSpec())
    (step,) = found.of_stage("compare")
    finish(store, step, order_seed=7, measured_at=own.pop("measured_at", None), entrants={
        group[0].id: {"rank": 2, "vs_best": 2.5, "latency_p50_ms": 30.0, "samples": 49},
        group[1].id: {"rank": 1, "vs_best": 1.0, "rounds": 32, "speedup_vs_fp32": 2.5, **own},
    })  # fmt: skip
    return found


def test_ranks_and_speedups_are_those_of_the_comparison(plan: Plan, store: Store) -> None:
    finish_all(plan, store)
    own = {"speedup_vs_fp32_low": 2.4, "speedup_vs_fp32_high": 2.6, "latency_p50_ms": 12.0}
    found = rows_of(compared(plan, store, samples=51, **own), store)
    fp16, fp32 = found["fp16"], found["fp32"]
    assert (fp16["rank"], fp16["vs_best"], fp32["rank"], fp32["vs_best"]) == (1, 1.0, 2, 2.5)
    assert (fp16["rounds"], fp16["order_seed"], fp32["speedup_vs_fp32"]) == (32, 7, None)
    assert [fp16[f"speedup_vs_fp32{end}"] for end in ("", "_low", "_high")] == [2.5, 2.4, 2.6]
    assert fp16["status"] == fp32["status"] == "ok" and fp16["compare_key"] == fp32["compare_key"]


def test_the_latency_is_of_the_stage_with_more_samples(plan: Plan, store: Store) -> None:
    finish_all(plan, store, "measure")
    for step in plan.of_stage("measure"):
        finish(store, step, measured_at="before")
    more = compared(plan, store, measured_at="then", samples=51, latency_p50_ms=12.0)
    found = rows_of(more, store)
    fp16, fp32 = found["fp16"], found["fp32"]
    assert (fp16["latency_source"], fp16["latency_p50_ms"]) == ("compare", 12.0)
    assert fp16["latency_p90_ms"] is None, "a figure of other samples"
    assert fp16["measured_at"] == "then" and fp32["measured_at"] == "before"
    assert (fp32["latency_source"], fp32["latency_p50_ms"]) == ("measure", 10.0)


@pytest.mark.parametrize("samples", [{"samples": 50}, {}])
def test_as_many_samples_of_a_comparison_replace_nothing(
    plan: Plan, store: Store, samples: dict[str, int]
) -> None:
    finish_all(plan, store)
    found = rows_of(compared(plan, store, latency_p50_ms=12.0, **samples), store)["fp16"]
    assert (found["latency_source"], found["latency_p50_ms"]) == ("measure", 10.0)


def test_a_comparison_that_failed_or_did_not_run_fails_no_cell(plan: Plan, store: Store) -> None:
    finish_all(plan, store)
    group = [Candidate(cell) for cell in plan.cells]
    with_step = with_comparisons(plan, [group], CompareSpec())
    key = with_step.of_stage("compare")[0].key
    for failed in ({}, {key: "it failed"}):
        found = rows_of(with_step, store, failed=failed)
        assert {row["status"] for row in found.values()} == {"ok"}
        assert {row["rank"] for row in found.values()} == {None}


def test_a_cell_without_its_fp32_one_has_no_speedup(plan: Plan, store: Store) -> None:
    finish_all(plan, store, "measure")
    finish(store, steps_of(plan, "fp16")["measure"])
    found = rows_of(plan, store)
    assert found["fp16"]["speedup_vs_fp32"] is None
    assert found["fp16"]["status"] == "ok" and found["fp32"]["status"] == "pending"
    assert found["fp32"]["reason"] == "measure has not run" and found["fp32"]["device"] == "a cpu"
    assert found["fp32"]["peak_host_bytes"] is None


def test_the_first_stage_that_has_not_run_is_named_with_the_reason(
    plan: Plan, store: Store
) -> None:
    build = steps_of(plan, "fp32")["build"]
    finish_all(plan, store, "build", "verify", "evaluate", "measure")
    found = rows_of(plan, store, not_begun={build.key: "no H100"})
    assert (found["fp32"]["status"], found["fp32"]["failed_stage"]) == ("pending", None)
    assert found["fp32"]["reason"] == "build has not run: no H100"
    assert found["fp16"]["reason"] == "build has not run"
    assert found["fp32"]["device"] is None and found["fp32"]["runtime_version"] is None
    assert found["fp32"]["toolchain"] == "export 1; openvino 2026.1"


def test_failures_are_of_their_stage_recorded_or_of_the_moment(plan: Plan, store: Store) -> None:
    finish_all(plan, store, "build", "evaluate", "measure")
    failed = steps_of(plan, "fp32")["build"]
    store.record_failure(Failure("build", failed.key, "x", "no operator"), None)
    lost = steps_of(plan, "fp16")["build"]
    found = rows_of(plan, store, failed={lost.key: "killed"})
    assert [found[one]["status"] for one in ("fp32", "fp16")] == ["failed", "failed"]
    assert [found[one]["failed_stage"] for one in ("fp32", "fp16")] == ["build", "build"]
    assert [found[one]["reason"] for one in ("fp32", "fp16")] == ["no operator", "killed"]


def test_an_engine_that_differs_fails_at_verify_with_its_figures(plan: Plan, store: Store) -> None:
    finish_all(plan, store)
    limits = VerifySpec(max_score_diff=1e-4)
    found = make_rows(plan, store, limits, {})
    fp32 = next(row for row in found if row["precision"] == "fp32")
    assert (fp32["status"], fp32["failed_stage"]) == ("failed", "verify")
    assert fp32["reason"] == "scores differ by 0.0005, at most 0.0001 allowed"
    assert fp32["failure_class"] == "mismatch"
    assert fp32["box_ap"] == 0.7 and fp32["matched_fraction"] == 1.0


def test_a_later_failure_stands_before_a_difference_and_after_pairs_that_cannot_be_read(
    plan: Plan, store: Store
) -> None:
    finish_all(plan, store, "measure")
    steps = steps_of(plan, "fp32")
    store.record_failure(Failure("measure", steps["measure"].key, "x", "it hangs"), None)

    def found() -> tuple[Any, Any]:
        rows = make_rows(plan, store, VerifySpec(max_score_diff=1e-4), {})
        (fp32,) = (row for row in rows if row["precision"] == "fp32")
        return fp32["failed_stage"], fp32["reason"].partition(";")[0]

    assert found() == ("measure", "it hangs")
    path = store.path(steps["verify"].ref) / "pairs.npz"
    path.write_bytes(b"x" * path.stat().st_size)
    assert found() == ("verify", "its pairs were altered")


def test_pairs_that_cannot_be_read_fail_the_cell_with_what_to_do(plan: Plan, store: Store) -> None:
    finish_all(plan, store)
    step = steps_of(plan, "fp32")["verify"]
    path = store.path(step.ref) / "pairs.npz"
    path.write_bytes(b"x" * path.stat().st_size)
    found = rows_of(plan, store)["fp32"]
    assert (found["status"], found["failed_stage"]) == ("failed", "verify")
    again = "run the sweep again, which makes them anew"
    assert found["reason"] == f"its pairs were altered; {again}"
    assert found["matched_fraction"] is None and found["failure_class"] == "io"


def test_a_cell_whose_axes_do_not_go_together_is_skipped(plan: Plan, store: Store) -> None:
    cells = tuple(replace(one, refused="too old") for one in plan.cells)
    refused = replace(plan, cells=cells)
    for _ in range(2):  # before the check of its model, and after it
        found = rows_of(refused, store)["fp32"]
        assert (found["status"], found["failed_stage"], found["failure_class"]) == (
            "skipped", None, None,
        )  # fmt: skip
        assert found["reason"] == "too old"
        finish(store, steps_of(plan, "fp32")["check"])


def test_a_cell_whose_model_cannot_be_used_at_all_has_failed(plan: Plan, store: Store) -> None:
    cells = tuple(replace(one, refused="no such head") for one in plan.cells)
    refused, check = replace(plan, cells=cells), steps_of(plan, "fp32")["check"]
    (row, _) = make_rows(refused, store, VerifySpec(), {check.key: "no such head"})
    assert (row["status"], row["failed_stage"]) == ("failed", "check")
    store.record_failure(Failure("check", check.key, "a", "no such head"), None)
    found = rows_of(refused, store)["fp32"]
    assert (found["status"], found["failed_stage"]) == ("failed", "check")
    store.forget(check.ref)
    finish(store, check, refused="no such head")  # it was built, and cannot be exported
    found = rows_of(refused, store)["fp32"]
    assert (found["status"], found["failed_stage"]) == ("failed", "export")
    assert found["failure_class"] == "unsupported"


def test_a_cell_whose_environment_cannot_be_made_has_failed(plan: Plan, store: Store) -> None:
    cells = tuple(replace(one, refused="no wheel", refused_stage="build") for one in plan.cells)
    found = rows_of(replace(plan, cells=cells), store)["fp32"]
    assert (found["status"], found["failed_stage"]) == ("failed", "build")


def test_files_of_a_row_are_named_where_they_are(plan: Plan, store: Store) -> None:
    finish_all(plan, store)
    found = rows_of(plan, store)
    steps = steps_of(plan, "fp16")
    assert places(found["fp16"], store) == {
        "onnx": str(store.path(steps["convert"].ref) / "model.onnx"),
        "engine": str(store.path(steps["build"].ref) / "engine"),
    }
    assert places(found["fp32"], store)["onnx"] == str(
        store.path(steps_of(plan, "fp32")["export"].ref) / "model.onnx"
    )
    assert places({**found["fp16"], "origin": "1234 other"}, store) == {}
    assert places({**found["fp16"], "build_key": None}, store).keys() == {"onnx"}
    assert places({**found["fp16"], "build_key": "0" * 64}, store).keys() == {"onnx"}


def test_a_part_of_a_sweep_replaces_its_own_target_alone(plan: Plan, store: Store) -> None:
    finish_all(plan, store)
    rows = make_rows(plan, store, VerifySpec(), {})
    other = [{**row, "target": "gpu"} for row in rows]
    root = store.root.parent
    leaderboard.write([*rows, *other], root, "own")
    (path,) = leaderboard.write(rows[:1], root, "own", complete=False)
    assert path == root / "leaderboard" / "target=cpu" / "sweep=own" / "leaderboard.parquet"
    assert len(leaderboard.of_sweep(root, "own", "gpu")) == 2
    assert leaderboard.of_sweep(root, "own", "cpu") == rows[:1]
    assert leaderboard.of_sweep(root, "own", "nonesuch") == []
    assert {row["target"] for row in leaderboard.read(root)} == {"cpu", "gpu"}
    assert leaderboard.read(root, target="gpu") == other
    assert leaderboard.read(root, sweep="own", target="cpu") == rows[:1]
    leaderboard.write(rows, root, "own")
    assert leaderboard.of_sweep(root, "own", "gpu") == []
    assert not (root / "leaderboard" / "target=gpu" / "sweep=own").exists()
    assert [one.name for one in path.parent.iterdir()] == ["leaderboard.parquet"]


def test_rows_of_one_data_set_have_its_digest_and_those_of_another_do_not(
    tmp_path: Path, plan: Plan, store: Store
) -> None:
    (tmp_path / "other.yaml").write_text(MATRIX.replace("count: 6", "count: 7"))
    other = make_plan(load_matrix(tmp_path / "other.yaml"), lambda _: FACTS)
    first, second = (
        {row["dataset"] for row in rows_of(one, store).values()} for one in (plan, other)
    )
    assert len(first) == len(second) == 1 and first != second
