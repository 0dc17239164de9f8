"""A store that was altered: the next sweep makes anew what is not whole, and its figures are right.

The sweep is real: a ready ONNX file in two shapes, run by ONNX Runtime on a few drawn images.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import PROJECT

from farm.cli import main
from farm.cli.results import Results
from farm.config.loader import Matrix, load_matrix
from farm.engine.workers.perform import perform
from farm.plan import Plan, make_plan
from farm.plan.steps import Step
from farm.results import leaderboard
from farm.specs import Ref
from farm.store import Store
from farm.store.facts import facts_from
from farm.store.upkeep.repair import discard_altered, outdated
from farm.sweep import Choices, run_sweep

pytestmark = pytest.mark.slow

QUIET = Choices(executor="inline", mlflow=False)
MATRIX = f"""\
name: own
models:
  ready:
    source: onnx
    file: {PROJECT}/matrices/sources/peaks.onnx
    classes: [circle, square, triangle, star]
    preprocess: {{mean: [123.675, 116.28, 103.53], std: [58.395, 57.12, 57.375], pad: 32}}
shapes:
  small: {{opt: 160x160}}
  large: {{opt: 192x192}}
runtimes: [onnxruntime]
dataset: {{type: synthetic, count: 6, seed: 7, size: 160}}
measure: {{seconds: 0.05, warmup_seconds: 0, min_samples: 10}}
compare: false
verify: {{images: 4}}
"""
BOTH = ("small", "large")


@dataclass(frozen=True)
class Swept:
    """A sweep that has run: its results, its plan, and the keys of its steps by shape."""

    matrix: Matrix
    results: Path
    plan: Plan

    @property
    def store(self) -> Store:
        return Store(self.results / "store")

    def step(self, stage: str, shape: str = "small") -> Step:
        (cell,) = (one for one in self.plan.cells if one.cell.shape == shape)
        return self.plan.steps[cell.steps[stage]]

    def folder(self, stage: str, shape: str = "small") -> Path:
        return self.store.path(self.step(stage, shape).ref)

    def again(self) -> dict[str, dict[str, Any]]:
        """The rows of another run, by shape."""
        sweep = run_sweep(self.matrix, Results(self.results), QUIET)
        assert sweep.exit_code == 0, sweep.rows
        return {row["shape"]: dict(row) for row in sweep.rows}

    def rows(self) -> dict[str, dict[str, Any]]:
        return {row["shape"]: dict(row) for row in leaderboard.read(self.results)}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of the sweep, which no test changes."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "m.yaml").write_text(MATRIX)
    sweep = run_sweep(load_matrix(folder / "m.yaml"), Results(folder / "results"), QUIET)
    assert sweep.exit_code == 0, sweep.rows
    return folder


@pytest.fixture
def swept(made: Path, tmp_path: Path) -> Swept:
    """A copy of it, to alter."""
    results = Path(shutil.copytree(made / "results", tmp_path / "results"))
    matrix = load_matrix(made / "m.yaml")
    return Swept(matrix, results, make_plan(matrix, facts_from(Store(results / "store"))))


def edit(path: Path, **figures: float) -> None:
    """Change figures of a record, as an editor does."""
    record = json.loads(path.read_text())
    record["figures"].update(figures)
    path.write_text(json.dumps(record, indent=1))


def overwrite(path: Path) -> None:
    """Other bytes in the middle of a file, whose size stays."""
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    for i in range(middle, min(middle + 4096, len(data))):
        data[i] ^= 0x55
    path.write_bytes(data)


def cut(path: Path) -> None:
    """As a full disk or a killed copy leaves a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def forget(swept: Swept, *stages: str) -> None:
    """Their steps run again, and take in what is altered."""
    for stage in stages:
        for shape in BOTH:
            swept.store.remove(swept.step(stage, shape).ref)


Alter = Callable[[Swept], object]

ALTERED: dict[str, tuple[Alter, tuple[str, ...], str, str]] = {
    # what is done, which steps are not done yet, and which file of which stage is named
    "bytes of the images": (
        lambda s: overwrite(s.folder("prepare") / "images.bin"),
        ("evaluate", "verify"), "prepare", "images.bin is altered",
    ),
    "bytes of the images, all done": (
        lambda s: overwrite(s.folder("prepare") / "images.bin"),
        (), "prepare", "images.bin is altered",
    ),
    "an AP": (
        lambda s: edit(s.folder("evaluate") / "record.json", box_ap=0.99),
        (), "evaluate", "record.json is altered",
    ),
    "a latency": (
        lambda s: edit(s.folder("measure") / "record.json", latency_p50_ms=0.001),
        (), "measure", "record.json is altered",
    ),
    "the record of another key": (
        lambda s: shutil.copyfile(
            s.folder("evaluate", "large") / "record.json", s.folder("evaluate") / "record.json"
        ),
        (), "evaluate", "record.json is that of another step",
    ),
    "another key's artifact": (
        lambda s: shutil.copytree(
            s.folder("measure", "large"), s.folder("measure"), dirs_exist_ok=True
        ),
        (), "measure", "record.json is that of another step",
    ),
    "the bytes of an engine": (
        lambda s: overwrite(s.folder("build") / "engine/model.onnx"),
        (), "build", "engine/model.onnx is altered",
    ),
    "the bytes of an engine that is still to run": (
        lambda s: overwrite(s.folder("build") / "engine/model.onnx"),
        ("measure",), "build", "engine/model.onnx is altered",
    ),
    "a torn reference": (
        lambda s: cut(s.folder("reference") / "graph.npz"),
        ("verify",), "reference", "graph.npz is altered",
    ),
    "a reference of the same size": (
        lambda s: overwrite(s.folder("reference") / "graph.npz"),
        ("verify",), "reference", "graph.npz is altered",
    ),
    "an exported file": (
        lambda s: overwrite(s.folder("export") / "model.onnx"),
        ("build",), "export", "model.onnx is altered",
    ),
    "an exported file that is gone": (
        lambda s: (s.folder("export") / "model.onnx").unlink(),
        ("build",), "export", "model.onnx is missing",
    ),
    "pairs": (
        lambda s: overwrite(s.folder("verify") / "pairs.npz"),
        (), "verify", "pairs.npz is altered",
    ),
    "pairs that agree": (
        lambda s: np.savez(s.folder("verify") / "pairs.npz", **dict.fromkeys(
            ("reference_score", "engine_score", "iou", "mask_iou"), np.ones(1, np.float32)
        ), box_diff_px=np.zeros(1, np.float32)),
        (), "verify", "pairs.npz is altered",
    ),
    "samples": (
        lambda s: cut(s.folder("measure") / "samples.npy"),
        (), "measure", "samples.npy is altered",
    ),
    "the facts of a model": (
        lambda s: edit(s.folder("check") / "record.json", opset=9),
        (), "check", "record.json is altered",
    ),
    "annotations": (
        lambda s: overwrite(s.folder("prepare") / "annotations.json"),
        ("evaluate",), "prepare", "annotations.json is altered",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", ALTERED)
def test_what_was_altered_is_made_anew_and_said(
    kind: str, swept: Swept, capsys: pytest.CaptureFixture[str]
) -> None:
    alter, not_done, stage, said = ALTERED[kind]
    right, folder = swept.rows(), swept.folder(stage)
    key = folder.name[:12]
    forget(swept, *not_done)
    alter(swept)
    capsys.readouterr()
    rows = swept.again()
    shown = capsys.readouterr().err
    assert f"{stage} {key}: {said}; it is made anew" in shown
    for shape in BOTH:
        for name in ("box_ap", "box_ap_reference", "matched_fraction", "status", "opset"):
            assert rows[shape][name] == right[shape][name], name
        assert rows[shape]["latency_p50_ms"] > 0.01
    assert list((swept.store.root / "failed").glob("*")) == []
    assert swept.store.altered(Ref(stage, folder.name), anew=True) == []
    swept.again()
    assert "made anew" not in capsys.readouterr().err


def test_figures_of_another_engine_go_with_it(
    swept: Swept, capsys: pytest.CaptureFixture[str]
) -> None:
    """An engine that is built again may be another one."""
    measured = (swept.folder("measure") / "record.json").read_text()
    other = (swept.folder("measure", "large") / "record.json").read_text()
    overwrite(swept.folder("build") / "engine/model.onnx")
    swept.again()
    shown = capsys.readouterr().err
    for stage in ("verify", "evaluate", "measure"):
        key = swept.step(stage).key[:12]
        assert f"{stage} {key}: its engine is made anew; it is made anew" in shown
    assert (swept.folder("measure") / "record.json").read_text() != measured
    assert (swept.folder("measure", "large") / "record.json").read_text() == other
    swept.store.remove(swept.step("build").ref)  # somebody has removed it
    swept.again()
    assert f"evaluate {swept.step('evaluate').key[:12]}: its engine" in capsys.readouterr().err


def test_results_of_a_parent_that_is_another_now_go(swept: Swept) -> None:
    export = swept.step("export").ref
    before = swept.store.record(export)
    assert before is not None
    swept.store.remove(export)
    folder = swept.store.work_folder(export.key)
    (folder / "model.onnx").write_bytes(b"the same step, another file")
    swept.store.publish(folder, before)
    gone = discard_altered(swept.store, (step.ref for step in swept.plan.steps.values()))
    stages = ("build", "verify", "evaluate", "measure")
    assert gone == [swept.step(stage).ref for stage in stages]
    record = swept.store.record(swept.step("build", "large").ref)
    assert record is not None and outdated(record, {}) is None
    assert outdated(record, dict.fromkeys(record.parents, "0")) == (
        "it was made of another export than is there now"
    )


def test_a_parent_that_is_altered_meanwhile_is_no_failure_of_its_child(swept: Swept) -> None:
    """It is found when it is taken in; its own step then runs again, and the child after that."""
    root, store = str(swept.store.root), swept.store
    right = store.record(swept.step("evaluate").ref)
    assert right is not None
    for stage, child, name in (
        ("prepare", "evaluate", "images.bin"), ("build", "measure", "engine/model.onnx"),
        ("reference", "verify", "graph.npz"), ("export", "build", "model.onnx"),
    ):  # fmt: skip
        parent, step = swept.step(stage), swept.step(child)
        overwrite(swept.folder(stage) / name)
        store.remove(step.ref)
        outcome = perform(step, root)
        assert outcome.status == "transient"
        assert outcome.reason == (
            f"of {stage} {parent.key[:12]}, which it reads, {name} is altered; that step has to"
            " run again"
        )
        assert store.record(parent.ref) is None and store.failure(step.key) is None
        assert perform(step, root).status == "transient" and store.record(step.ref) is None
        assert perform(parent, root).status == "done"
        assert perform(step, root).status == "done"
    again = store.record(swept.step("evaluate").ref)
    assert again is not None and again.figures["box_ap"] == right.figures["box_ap"]


def best(results: Path, *words: str) -> int:
    words = ("farm", "best", "--target", "cpu", "--results", str(results), *words)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr(sys, "argv", list(words))
        main.main()
    return int(end.value.code or 0)


SHIPPED: dict[str, tuple[Alter, str]] = {
    "the engine": (
        lambda s: overwrite(s.folder("build") / "engine/model.onnx"),
        "engine/model.onnx is altered (build",
    ),
    "the engine is cut": (
        lambda s: cut(s.folder("build") / "engine/model.onnx"),
        "engine/model.onnx is altered (build",
    ),
    "the file": (
        lambda s: overwrite(s.folder("export") / "model.onnx"), "model.onnx is altered (export",
    ),
    "an AP": (
        lambda s: edit(s.folder("evaluate") / "record.json", box_ap=0.9),
        "record.json is altered (evaluate",
    ),
    "a latency": (
        lambda s: edit(s.folder("measure") / "record.json", latency_p50_ms=0.1),
        "record.json is altered (measure",
    ),
    "the reference's AP": (
        lambda s: edit(s.folder("reference") / "record.json", box_ap=0.1),
        "record.json is altered (reference",
    ),
    "pairs": (lambda s: cut(s.folder("verify") / "pairs.npz"), "pairs.npz is altered (verify"),
}  # fmt: skip


@pytest.mark.parametrize("kind", SHIPPED)
def test_nothing_that_was_altered_is_shipped(
    kind: str, swept: Swept, capsys: pytest.CaptureFixture[str]
) -> None:
    alter, said = SHIPPED[kind]
    objective = ("--objective", "ap")
    assert best(swept.results, *objective) == 0
    shown = capsys.readouterr().out
    (shape,) = (one for one in BOTH if f".{one}." in shown.splitlines()[0])
    assert shown.startswith("Ship ready") and "engine" in shown
    alter(swept if shape == "small" else exchanged(swept))
    assert best(swept.results, *objective) == 1
    shown = capsys.readouterr().out
    assert shown.startswith("No engine to ship") and "Ship ready" not in shown
    assert said in shown and "run the sweep again" in shown and f".{shape}." in shown
    assert best(swept.results, *objective, "--json") == 1
    (found,) = json.loads(capsys.readouterr().out)["targets"][0]["picks"]
    assert found["best"] is None and found["files"] == {} and said in str(found["left_out"])
    assert best(swept.results, *objective, "--pareto") == 1
    assert "No engine to ship" in capsys.readouterr().out
    swept.again()
    capsys.readouterr()
    assert best(swept.results, *objective) == 0
    assert capsys.readouterr().out.startswith("Ship ready")


def exchanged(swept: Swept) -> Swept:
    """With the names of the two shapes exchanged: `step` finds the steps of the other cell."""
    names = dict(zip(BOTH, reversed(BOTH), strict=True))
    cells = tuple(
        replace(one, cell=replace(one.cell, shape=names[one.cell.shape]))
        for one in swept.plan.cells
    )
    return replace(swept, plan=replace(swept.plan, cells=cells))


def test_an_engine_that_was_built_since_is_not_shipped_by_figures_of_the_earlier_one(
    swept: Swept, capsys: pytest.CaptureFixture[str]
) -> None:
    for shape in BOTH:
        build = swept.step("build", shape)
        before = swept.store.record(build.ref)
        assert before is not None
        swept.store.remove(build.ref)
        folder = swept.store.work_folder(build.key)
        (folder / "engine").mkdir()
        (folder / "engine" / "model.onnx").write_bytes(b"another engine")
        swept.store.publish(folder, before)
    assert best(swept.results) == 1
    assert "it was made of another build than is there now (verify" in capsys.readouterr().out
