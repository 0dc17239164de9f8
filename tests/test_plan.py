"""The plan: shared steps appear once, keys follow what matters, and planning is light."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from farm import inputs
from farm.errors import InputError
from farm.matrix import load_matrix
from farm.plan import STAGES, Plan, make_plan
from farm.plan.devices import cores
from farm.plan.files import config_file, image_folder

MATRIX = """\
name: sharing
models:
  a: {config: a.py, checkpoint: a.pth}
  b: {config: b.py, checkpoint: b.pth}
opsets: [11, 13, 17]
shapes:
  fixed: {opt: 160x160}
  dynamic: {min: 96x96, opt: 160x160, max: 320x320}
runtimes: [torch, onnxruntime, openvino]
dataset: {type: shapes}
"""


@pytest.fixture
def matrix(tmp_path: Path) -> Path:
    for name in "ab":
        (tmp_path / f"{name}.py").write_text(f"model = '{name}'\n")
        (tmp_path / f"{name}.pth").write_bytes(name.encode())
    path = tmp_path / "m.yaml"
    path.write_text(MATRIX)
    return path


def known(key: str) -> inputs.ModelFacts:
    return inputs.ModelFacts(("circle",), False, "the same pipeline")


def plan_of(path: Path, *overrides: str, facts: object = known) -> Plan:
    return make_plan(load_matrix(path, overrides), facts)  # type: ignore[arg-type]


def count(plan: Plan) -> dict[str, int]:
    return {stage: len(plan.of_stage(stage)) for stage in STAGES}


def test_equal_steps_are_one(matrix: Path) -> None:
    plan = plan_of(matrix)
    assert len(plan.cells) == 28  # 2 models x 2 shapes x (torch + 3 opsets x 2 runtimes)
    assert count(plan) == {
        "check": 2,
        "prepare": 2,  # the shapes; both models have one pipeline
        "reference": 4,
        "export": 12,  # not times the runtimes
        "build": 24,
        "verify": 28,
        "evaluate": 28,
        "measure": 28,
    }


def test_parents_stand_before_their_children(matrix: Path) -> None:
    seen: set[str] = set()
    for key, step in plan_of(matrix).steps.items():
        assert set(step.parents) <= seen
        seen.add(key)


def test_an_axis_that_a_runtime_lacks_does_not_multiply(matrix: Path) -> None:
    assert plan_of(matrix).steps.keys() == plan_of(matrix, "workspaces=[1GiB, 4GiB]").steps.keys()


def test_profiles_with_other_bounds_share_their_export(matrix: Path) -> None:
    wide = "{min: 96x96, opt: 160x160, max: 320x320}"
    narrow = "{min: 64x64, opt: 160x160, max: 192x192}"
    plan = plan_of(matrix, f"shapes={{x: {wide}, y: {narrow}}}")
    assert count(plan)["export"] == 6
    assert count(plan)["build"] == 24


def changed(before: Plan, after: Plan) -> set[str]:
    """Stages of which some key is new."""
    return {step.stage for key, step in after.steps.items() if key not in before.steps}


def test_keys_follow_content_and_not_places_or_names(matrix: Path, tmp_path: Path) -> None:
    before = plan_of(matrix)
    (tmp_path / "elsewhere.pth").write_bytes(b"a")
    moved = matrix.read_text().replace("a.pth", "elsewhere.pth").replace("  a:", "  renamed:")
    matrix.write_text(moved)
    assert changed(before, plan_of(matrix)) == set()
    (tmp_path / "elsewhere.pth").write_bytes(b"another training")
    assert changed(before, plan_of(matrix)) == set(STAGES) - {"prepare"}


def test_a_threshold_changes_no_key_and_a_duration_only_measure(matrix: Path) -> None:
    before = plan_of(matrix)
    assert changed(before, plan_of(matrix, "verify.max_score_diff=0.5")) == set()
    assert changed(before, plan_of(matrix, "measure.seconds=9")) == {"measure"}
    assert changed(before, plan_of(matrix, "dataset.seed=8")) >= {"prepare", "evaluate"}


def test_a_base_of_a_config_counts_and_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "base.py").write_text("raise SystemExit('configs are not run at planning')\n")
    (tmp_path / "c.py").write_text("_base_ = ['./base.py']\n")
    first = config_file("c.py", tmp_path).digest
    (tmp_path / "base.py").write_text("raise SystemExit(2)\n")
    assert config_file("c.py", tmp_path).digest != first


def test_measure_runs_alone_and_nothing_else_does(matrix: Path) -> None:
    alone = {step.stage for step in plan_of(matrix).steps.values() if step.needs.exclusive}
    assert alone == {"measure"}


def test_missing_files_are_listed_and_planning_goes_on(matrix: Path, tmp_path: Path) -> None:
    (tmp_path / "a.pth").unlink()
    (tmp_path / "b.py").unlink()
    plan = plan_of(matrix)
    assert len(plan.cells) == 28
    said = [str(error) for error in plan.missing]
    assert len(said) == 2
    assert said[0].startswith(f"{matrix}:3: checkpoint ") and "does not exist" in said[0]
    assert said[1].startswith(f"{matrix}:4: config 'b.py' is neither a file")


def test_a_refused_model_has_no_heavy_step(matrix: Path) -> None:
    def refuse(key: str) -> inputs.ModelFacts:
        return inputs.ModelFacts(("circle",), False, "p", refused="no path for this head")

    plan = plan_of(matrix, facts=refuse)
    assert all(one.refused == "no path for this head" for one in plan.cells)
    assert {step.stage for step in plan.steps.values()} == {"check"}


def test_unchecked_models_are_said(matrix: Path) -> None:
    plan = make_plan(load_matrix(matrix))
    assert plan.unchecked == ("a", "b")
    assert count(plan)["prepare"] == 4  # provisional: whether they share is not known yet


def test_planning_imports_nothing_heavy(matrix: Path) -> None:
    code = (
        "import sys; sys.argv = ['farm', 'plan', sys.argv[1], '--json']\n"
        "from farm.cli import main\n"
        "try: main()\n"
        "finally: print([m for m in ('torch','ray','mlflow','mmcv','numpy','pandas','onnxruntime')"
        " if m in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(matrix)], capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == "[]"
    plan = json.loads(done.stdout)
    assert len(plan["cells"]) == 28
    assert set(plan["cells"][0]["steps"].values()) <= plan["steps"].keys()


def test_thousands_of_cells_share_their_steps(matrix: Path) -> None:
    shapes = ", ".join(f"s{n}: {{opt: {n}x{n}}}" for n in range(96, 96 + 32 * 40, 32))
    plan = plan_of(matrix, f"shapes={{{shapes}}}", "opsets=[11,12,13,14,15,16,17,18,19,20]")
    assert len(plan.cells) == 2 * 40 * 21
    assert count(plan)["prepare"] == 40 and count(plan)["export"] == 2 * 40 * 10


def test_a_base_that_code_computes_is_refused(tmp_path: Path) -> None:
    for base in ("ROOT + 'x.py'", "5", "[1]"):
        (tmp_path / "c.py").write_text(f"ROOT = '.'\n_base_ = {base}\n")
        with pytest.raises(InputError, match=r"c\.py:2: _base_ must be written out"):
            config_file("c.py", tmp_path)


def test_images_in_subfolders_count(tmp_path: Path) -> None:
    (tmp_path / "patch1").mkdir()
    (tmp_path / "patch1" / "x.jpg").write_bytes(b"1")
    first = image_folder("", tmp_path).digest
    (tmp_path / "patch1" / "x.jpg").write_bytes(b"12")
    assert image_folder("", tmp_path).digest != first


def test_batches_of_one_shape_share_their_images_and_reference(matrix: Path) -> None:
    plan = plan_of(matrix, "shapes={one: {opt: 160x160}, four: {opt: 4x3x160x160}}")
    assert count(plan)["prepare"] == 1 and count(plan)["reference"] == 2
    assert count(plan)["export"] == 12


def test_cores_are_part_of_what_was_measured(matrix: Path) -> None:
    assert changed(plan_of(matrix, "measure.threads=1"), plan_of(matrix, "measure.threads=2")) == {
        "measure"
    }
    threads = {step.inputs.threads for step in plan_of(matrix).of_stage("measure")}  # type: ignore[union-attr]
    assert threads == {cores()}
