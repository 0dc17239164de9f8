"""The plan: shared steps appear once, keys follow what matters, and planning is light."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from farm import catalog, specs
from farm.cli.plan import as_text
from farm.config.loader import load_matrix
from farm.errors import InputError
from farm.plan import STAGES, Plan, make_plan
from farm.plan.content import digests
from farm.plan.content.configs import config_file, config_parts
from farm.plan.content.files import code_file, image_folder
from farm.plan.keys import canonical
from farm.plan.machines.placement import cores
from farm.specs import Dims
from farm.store import Store

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
dataset: {type: synthetic}
"""


@pytest.fixture
def matrix(tmp_path: Path) -> Path:
    for name in "ab":
        (tmp_path / f"{name}.py").write_text(f"model = '{name}'\n")
        (tmp_path / f"{name}.pth").write_bytes(name.encode())
    path = tmp_path / "m.yaml"
    path.write_text(MATRIX)
    return path


def known(key: str) -> specs.ModelFacts:
    return specs.ModelFacts(("circle",), False, "the same pipeline")


def plan_of(path: Path, *overrides: str, facts: object = known) -> Plan:
    return make_plan(load_matrix(path, overrides), facts)  # type: ignore[arg-type]


def count(plan: Plan) -> dict[str, int]:
    return {stage: len(steps) for stage in STAGES if (steps := plan.of_stage(stage))}


def test_the_former_name_of_the_synthetic_data_set_gives_the_same_keys_and_a_warning(
    matrix: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    current = plan_of(matrix)
    matrix.write_text(MATRIX.replace("type: synthetic", "type: shapes"))
    former = plan_of(matrix)
    overridden = plan_of(matrix, "dataset.type=shapes")
    assert current.steps.keys() == former.steps.keys() == overridden.steps.keys()
    said = capsys.readouterr().err.splitlines()
    name = "the data set type 'shapes' is now called 'synthetic'"
    assert list(dict.fromkeys(said)) == [
        f"{matrix}:10: {name}",
        f"override 'dataset.type=shapes': {name}",
    ]


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
    assert changed(before, plan_of(matrix)) == set(STAGES) - {"prepare", "convert", "compare"}


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


def test_what_an_override_names_is_told_without_lines(matrix: Path, tmp_path: Path) -> None:
    both = ("models.a.checkpoint=no.pth", "models.b.checkpoint=nor.pth")
    told = as_text(plan_of(matrix, *both), Store(tmp_path / "store"))
    assert "by their lines" not in " ".join(told.split())
    assert "no.pth" in told and "nor.pth" in told
    for name in "ab":
        (tmp_path / f"{name}.pth").unlink()
    told = as_text(plan_of(matrix), Store(tmp_path / "store"))
    assert "2 checkpoints" in told and "m.yaml:\n" in told


def test_a_refused_model_has_no_heavy_step(matrix: Path) -> None:
    def refuse(key: str) -> specs.ModelFacts:
        return specs.ModelFacts(("circle",), False, "p", refused="no path for this head")

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
        "from farm.cli.main import main\n"
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


@pytest.mark.parametrize(
    "text",
    [
        "_base_ = ROOT + 'x.py'",
        "_base_ = 5",
        "_base_ = [1]",
        "_base_ = 'gone.py'\n_base_ = ROOT",
        "_base_ = ['gone.py']\n_base_ += ['x.py']",
        "if True:\n    _base_ = 'gone.py'",
    ],
)
def test_a_base_that_code_computes_is_left_to_check(text: str, tmp_path: Path) -> None:
    (tmp_path / "c.py").write_text(f"{text}\n")
    assert config_parts(tmp_path / "c.py") == [tmp_path / "c.py"]


def test_bases_are_read_once_each_and_never_without_end(tmp_path: Path) -> None:
    for n in range(26):
        (tmp_path / f"c{n}.py").write_text(f"_base_ = ['c{n + 1}.py', './c{n + 1}.py']\n")
    (tmp_path / "c26.py").write_text("x = 1\n")
    started = time.perf_counter()
    with pytest.raises(InputError, match="mmcv would read 134217727 bases"):
        config_file("c0.py", tmp_path)
    assert len(config_parts(tmp_path / "c20.py")) == 7
    for n in range(3000):
        (tmp_path / f"d{n}.py").write_text(f"_base_ = 'd{n + 1}.py'\n")
    with pytest.raises(InputError, match="more than 100 levels"):
        config_file("d0.py", tmp_path)
    (tmp_path / "e.py").write_text("_base_ = './f.py'\n")
    (tmp_path / "f.py").write_text("_base_ = 'e.py'\n")
    with pytest.raises(InputError, match="is its own _base_"):
        config_file("e.py", tmp_path)
    assert time.perf_counter() - started < 60  # 134217727 reads would take hours


def test_bases_are_named_as_mmcv_fills_them_in(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "c_base.py").write_text("x = 1\n")
    for base in (
        "{{ fileDirname }}/c_base.py", "{{fileBasenameNoExtension}}_base{{ fileExtname }}",
        "../own/c_base.py",
    ):  # fmt: skip
        (tmp_path / "own" / "c.py").write_text(f"_base_ = ['{base}']\n")
        names = [part.name for part in config_parts(tmp_path / "own" / "c.py")]
        assert names == ["c.py", "c_base.py"], base
    (tmp_path / "own" / "c.py").write_text("_base_ = '{{ fileBasename }}x'\n")
    with pytest.raises(InputError, match=r"a _base_ that is not there: .*own/c\.pyx"):
        config_file("own/c.py", tmp_path)


def test_configs_of_other_forms_are_planned(tmp_path: Path) -> None:
    (tmp_path / "c.yml").write_text("_base_: ./b.yml\nmodel: {type: x}\n")
    (tmp_path / "c.json").write_text('{"_base_": "./b.json", "model": true}')
    digests = [config_file(name, tmp_path).digest for name in ("c.yml", "c.json")]
    (tmp_path / "c.yml").write_text("model: {type: y}\n")
    assert config_file("c.yml", tmp_path).digest not in digests


def test_a_config_that_is_not_utf8_is_wrong_input(tmp_path: Path) -> None:
    for text in (b"# coding: latin1\nx = '\xe9'\n", "x = 1\n".encode("utf-16")):
        (tmp_path / "c.py").write_bytes(text)
        with pytest.raises(InputError, match="not UTF-8"):
            config_file("c.py", tmp_path)


@pytest.mark.parametrize("text", ["x = " + "-" * 100_000 + "1\n", "x = " + "[" * 9_000 + "\n"])
def test_a_config_nested_too_deep_is_wrong_input_and_says_why(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.py").write_text(text)
    with pytest.raises(InputError, match=r"c\.py.*(nested deeper than|too many nested)"):
        config_file("c.py", tmp_path)


def test_a_function_of_main_is_wrong_input(tmp_path: Path) -> None:
    (tmp_path / "__main__.py").write_text("def f(): ...\n")
    for module in ("__main__", "__main__.sub", "..x", "builtins"):
        with pytest.raises(InputError, match="is neither in"):
            code_file(module, tmp_path)


def test_a_digest_follows_content_that_no_time_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same size, same time of change of the content: only that of the file itself differs."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "GRAIN_NS", -(10**12))  # as if all of it was long ago
    path = tmp_path / "w.pth"
    path.write_bytes(b"one")
    os.utime(path, (1, 1))
    first = digests.of_file(path)
    assert digests.of_file(path) == first and any((tmp_path / "cache").rglob("*"))
    time.sleep(0.02)  # so that the file's own time of change differs on a coarse clock
    path.write_bytes(b"two")
    os.utime(path, (1, 1))
    assert digests.of_file(path) == hashlib.sha256(b"two").hexdigest() != first


def test_a_file_that_has_just_changed_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a clock that ticks slowly nothing tells the second change from the first."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "w.pth"
    path.write_bytes(b"one")
    now = os.stat(path)
    coarse = SimpleNamespace(stat=lambda name: now, environ=os.environ, getpid=os.getpid)
    monkeypatch.setattr(digests, "os", coarse)
    assert digests.of_file(path) == hashlib.sha256(b"one").hexdigest()
    path.write_bytes(b"two")
    assert digests.of_file(path) == hashlib.sha256(b"two").hexdigest()
    assert not list((tmp_path / "cache").rglob("*"))


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


def cuttable(key: str) -> specs.ModelFacts:
    how = specs.Suppression(0.5, False, 100)
    return specs.ModelFacts(("circle",), False, "the same pipeline", suppression=how)


def test_where_a_graph_ends_is_an_axis_of_export_and_what_follows(matrix: Path) -> None:
    before = plan_of(matrix, facts=cuttable)
    plan = plan_of(matrix, "postprocess=[graph, host, none]", facts=cuttable)
    assert before.steps.keys() < plan.steps.keys()  # what there was keeps its keys
    assert count(plan) == {
        "check": 2,
        "prepare": 2,
        "reference": 8,  # raw outputs are a reference of their own
        "export": 36,
        "build": 72,
        "verify": 84,
        "evaluate": 56,  # raw outputs have no AP
        "measure": 84,
    }
    hosts = [cell for cell in plan.cells if cell.cell.postprocess == "host"]
    engine = plan.steps[hosts[0].steps["measure"]].inputs.engine  # type: ignore[union-attr]
    assert (engine.postprocess, engine.suppression.keep) == ("host", 100)


def test_a_model_without_suppression_has_one_graph_for_graph_and_host(matrix: Path) -> None:
    plan = plan_of(matrix, "postprocess=[graph, host]")
    assert len(plan.cells) == 2 * 28
    assert plan.steps.keys() == plan_of(matrix).steps.keys()


def test_a_model_is_refused_only_where_its_graph_cannot_end(matrix: Path) -> None:
    def reasons(**values: str) -> dict[str, str | None]:
        facts = specs.ModelFacts(("a",), False, "p", **values)  # type: ignore[arg-type]
        plan = plan_of(matrix, "postprocess=[graph, host, none]", facts=lambda key: facts)
        return {one.cell.postprocess: one.refused for one in plan.cells}

    assert reasons(refused="no path") == {"graph": "no path", "host": "no path", "none": None}
    assert reasons(host_refused="no cut") == {"graph": None, "host": "no cut", "none": None}
    assert reasons(raw_refused="no heads") == {"graph": None, "host": None, "none": "no heads"}


def test_a_field_that_came_later_is_in_no_key_while_it_says_nothing() -> None:
    square = Dims(1, 3, 160, 160)
    model = specs.OnnxModel("m", specs.File("x.onnx", "digest"))
    values = specs.ExportInputs(model, specs.Shape("s", square, square, square), 17)
    assert set(canonical(values)) == {"model", "shape", "opset"}
    later = dataclasses.replace(values, postprocess="host", simplify=True)
    assert set(canonical(later)) == {"model", "shape", "opset", "postprocess", "simplify"}


def test_a_place_is_in_no_key_and_equal_inputs_have_one() -> None:
    assert canonical(specs.CachePath("/here")) == {}
    square = Dims(1, 3, 160, 160)
    shapes = [specs.Shape(name, square, square, Dims(4, 3, 160, 160)) for name in "ab"]
    assert canonical(shapes[0]) == canonical(shapes[1]) == canonical(shapes[0])
    assert canonical(shapes[0]) != canonical(specs.Shape("a", square, square, square))


def test_simplify_is_in_the_key_of_the_exports_it_is_asked_for(matrix: Path) -> None:
    before = plan_of(matrix)
    tools = {name for step in before.of_stage("export") for name, _ in step.toolchain}
    assert "onnxslim" not in tools
    text = matrix.read_text().replace("checkpoint: a.pth}", "checkpoint: a.pth, simplify: true}")
    matrix.write_text(text)
    plan = plan_of(matrix)
    new = [step for key, step in plan.steps.items() if key not in before.steps]
    assert {step.stage for step in new} == {"export", "build", "verify", "evaluate", "measure"}
    exports = [step for step in new if step.stage == "export"]
    assert len(exports) == 6 and all(dict(step.toolchain)["onnxslim"] for step in exports)
    everywhere = plan_of(matrix, "simplify=true", "models.b.simplify=false")
    assert everywhere.steps.keys() == plan.steps.keys()


def test_simplified_and_dynamic_is_refused_where_it_is_not_known_to_work(
    matrix: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with TensorRT, until it is shown to work there."""
    known_runtime = catalog.RUNTIMES["openvino"]
    picky = dataclasses.replace(known_runtime, simplified_dynamic=False)
    monkeypatch.setitem(catalog.RUNTIMES.parts, "openvino", picky)
    assert not any(one.refused for one in plan_of(matrix).cells)
    refused = [one for one in plan_of(matrix, "simplify=true").cells if one.refused]
    assert {(one.cell.runtime, one.cell.shape) for one in refused} == {("openvino", "dynamic")}
    assert "simplified model with dynamic shapes" in str(refused[0].refused)


OTHERS = """\
name: others
models:
  ready: {source: onnx, file: x.onnx, classes: [circle], preprocess: {pad: 32}}
  heads: {source: module, function: "pack.net:make", outputs: raw}
opsets: [11, 17]
postprocess: [graph, host]
shapes:
  fixed: {opt: 160x160}
  dynamic: {min: 96x96, opt: 160x160, max: 320x320}
runtimes: [torch, onnxruntime]
dataset: {type: synthetic}
"""


@pytest.fixture
def others(tmp_path: Path) -> Path:
    (tmp_path / "x.onnx").write_bytes(b"onnx")
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack/net.py").write_text("from . import parts\nfrom helper import x\n")
    (tmp_path / "pack/parts.py").write_text("import os\n")
    (tmp_path / "helper.py").write_text("x = 1\n")
    (tmp_path / "m.yaml").write_text(OTHERS)
    return tmp_path / "m.yaml"


def test_axes_that_a_source_lacks_do_not_multiply(others: Path) -> None:
    plan = plan_of(others)
    assert [one.cell.id for one in plan.cells] == [
        # A ready file has its own opset, and PyTorch cannot run it.
        "ready.fixed.fp32.onnxruntime.cpu",
        "ready.dynamic.fp32.onnxruntime.cpu",
        # A module ends where its outputs say.
        "heads.fixed.none.fp32.torch.cpu",
        "heads.dynamic.none.fp32.torch.cpu",
        *(f"heads.op{n}.fixed.none.fp32.onnxruntime.cpu" for n in (11, 17)),
        *(f"heads.op{n}.dynamic.none.fp32.onnxruntime.cpu" for n in (11, 17)),
    ]  # fmt: skip
    opsets = {step.inputs.opset for step in plan.of_stage("export")}  # type: ignore[union-attr]
    assert opsets == {None, 11, 17}


def test_a_shape_that_a_ready_model_does_not_take_is_refused(others: Path) -> None:
    def facts(key: str) -> specs.ModelFacts:
        return specs.ModelFacts(("circle",), False, "p", input_shape=(None, 3, 160, 160))

    shapes = (
        "shapes.four={opt: 4x3x160x160}",
        "shapes.up={min: 160x160, opt: 160x160, max: 320x320}",
    )
    plan = plan_of(others, *shapes, "models.heads.shapes=[fixed]", facts=facts)
    reasons = {one.cell.shape: one.refused for one in plan.cells if one.cell.model == "ready"}
    assert reasons["fixed"] is None and reasons["four"] is None
    assert "asks for 1x3x160x160 to 1x3x320x320" in str(reasons["up"])
    assert reasons["dynamic"] == (
        "the model takes ?x3x160x160 (NxCxHxW), and shape dynamic asks for 1x3x96x96 to 1x3x320x320"
    )


def test_what_a_function_imports_from_its_folder_is_in_its_digest(others: Path) -> None:
    folder = others.parent

    def new() -> set[str]:
        return {step.stage for key, step in plan_of(others).steps.items() if key not in before}

    before = plan_of(others).steps.keys()
    for name in ("pack/parts.py", "helper.py", "pack/net.py"):
        text = (folder / name).read_text()
        (folder / name).write_text(text + "# changed\n")
        assert new() == set(STAGES) - {"prepare", "convert", "evaluate", "compare"}, (
            name
        )  # it is the raw model's alone
        (folder / name).write_text(text)
        assert new() == set()
    (folder / "elsewhere.py").write_text("x = 2\n")
    assert new() == set()


def test_code_that_is_not_there_is_told_with_its_line(others: Path) -> None:
    others.write_text(OTHERS.replace("pack.net", "pack.nett").replace("x.onnx", "y.onnx"))
    said = [str(error) for error in plan_of(others).missing]
    assert said[0].startswith(f"{others}:3: ONNX file ") and said[0].endswith("does not exist")
    assert said[1].startswith(f"{others}:4: module 'pack.nett' is neither in ")
