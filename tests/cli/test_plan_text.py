"""The text of `farm plan`, line by line, and its JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from farm.cli.main import main
from farm.cli.plan import WIDTH, as_json, as_text
from farm.config.loader import Cell, load_matrix
from farm.errors import InputError
from farm.failures import FailureKind
from farm.plan import Plan, PlannedCell, Step, make_plan
from farm.store import Failure, Record, Store

TWO_RUNTIMES = """\
name: small
models: {abc: {config: c.py, checkpoint: c.pth}}
opsets: [11, 17]
shapes: {fixed: {opt: 160x160}}
runtimes: [torch, onnxruntime]
targets: {cpu: {}, big: {device: Z80}}
dataset: {type: synthetic, count: 6}
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def plan_of(folder: Path, text: str = TWO_RUNTIMES) -> Plan:
    for name, content in (("c.py", "model = 1\n"), ("c.pth", "x"), ("m.yaml", text)):
        (folder / name).write_text(content)
    return make_plan(load_matrix(folder / "m.yaml"))


def finish(store: Store, step: Step) -> None:
    store.publish(
        store.work_folder(step.key),
        Record(step.stage, step.key, step.label, {}, {}, {}, 1.0, 1, {}),
    )


def test_stages_are_counted_by_cells_steps_and_what_is_done(tmp_path: Path, store: Store) -> None:
    plan = plan_of(tmp_path)
    (prepare,) = plan.of_stage("prepare")
    finish(store, prepare)
    lines = as_text(plan, store).splitlines()
    assert lines[0] == f"Matrix small: {len(plan.cells)} cells, {len(plan.steps)} distinct steps"
    table = {line.split()[0]: line.split()[1:] for line in lines[2:] if line and line[0].isalpha()}
    assert table["stage"] == ["cells", "steps", "in", "store"]
    assert table["prepare"] == [str(len(plan.cells)), "1", "1"]
    assert table["export"] == ["4", "2", "0"] and table["check"][1:] == ["1", "0"]
    assert table["build"] == ["4", str(len(plan.of_stage("build"))), "0"]
    assert "convert" not in table
    assert lines[2] == "stage      cells  steps  in store"
    assert lines[3] == "---------  -----  -----  --------"
    assert max(map(len, lines)) <= WIDTH


def test_cells_are_counted_by_runtime_and_target_where_there_are_several(
    tmp_path: Path, store: Store
) -> None:
    text = as_text(plan_of(tmp_path), store)
    assert "cells        cpu  big\n-----------  ---  ---\n" in text
    assert "torch          1    1\n" in text and "onnxruntime    2    2\n" in text
    one = as_text(plan_of(tmp_path, TWO_RUNTIMES.replace(", big: {device: Z80}", "")), store)
    assert "cells        cpu" not in one


def cell(name: str, **values: object) -> Cell:
    axes: dict[str, Any] = {"opset": 17, "shape": "fixed", "postprocess": "graph"}
    axes |= {"precision": "fp32", "workspace_bytes": None, "runtime": "torch", "target": "cpu"}
    return Cell(model=name, **{**axes, **values})


def planned(*cells: PlannedCell, **more: object) -> Plan:
    return Plan("p", cells, {}, **{"missing": (), "unchecked": (), **more})  # type: ignore[arg-type]


def test_forty_cells_are_listed_and_more_are_summed_up(store: Store) -> None:
    cells = [PlannedCell(cell(f"m{n}", workspace_bytes=1 << 30), {}) for n in range(41)]
    few = as_text(planned(*cells[:40]), store)
    assert "cells:\n  " + cells[0].cell.id in few and cells[39].cell.id in few
    many = as_text(planned(*cells), store)
    assert "models        m0, m1," in many and "workspaces    1GiB" in many
    assert "(--json lists every cell and step)" in many and cells[0].cell.id not in many


def test_refused_cells_are_grouped_by_their_reason(store: Store) -> None:
    text = as_text(
        planned(
            PlannedCell(cell("a"), {}, "no such operator"),
            PlannedCell(cell("b"), {}, "no such operator"),
            PlannedCell(cell("c"), {}, "too old"),
            PlannedCell(cell("d"), {}),
        ),
        store,
    )
    assert f"  refused: 2 cells, such as {cell('a').id}: no such operator" in " ".join(
        text.split("\n   ")
    )
    assert f"refused: {cell('c').id}: too old" in " ".join(text.split())
    assert text.count("refused:") == 2


def test_unchecked_models_and_what_cannot_be_followed_are_named(store: Store) -> None:
    text = " ".join(
        as_text(
            planned(unchecked=("a", "b"), unfollowed={"a": ("starts git",), "c": ("reads x",)}),
            store,
        ).split()
    )
    assert "Not checked yet, or changed since: a, b." in text
    assert "starts git" in text and "reads x" in text


def test_missing_files_are_named(tmp_path: Path, store: Store) -> None:
    plan = plan_of(tmp_path, TWO_RUNTIMES.replace("c.pth", "gone.pth"))
    text = as_text(plan, store)
    assert "Missing, and needed by `farm run`:" in text and "gone.pth" in text
    text = as_text(planned(missing=(InputError("no such thing", "m.yaml:3"),)), store)
    assert "  m.yaml:3: no such thing" in text


def test_a_program_reads_the_same_plan(tmp_path: Path, store: Store) -> None:
    plan = plan_of(tmp_path)
    (prepare,) = plan.of_stage("prepare")
    finish(store, prepare)
    found = as_json(plan, store)
    assert found["name"] == "small" and len(found["cells"]) == len(plan.cells)
    assert list(found["steps"]) == list(plan.steps)
    done = [key for key, one in found["steps"].items() if one["in_store"]]
    assert done == [prepare.key]
    measured = [one for one in found["steps"].values() if one["stage"] == "measure"]
    assert measured and all(one["exclusive"] and one["accelerator"] is None for one in measured)
    first = found["cells"][0]
    assert first == {
        "cell": plan.cells[0].cell.id, "refused": None, "steps": dict(plan.cells[0].steps),
    }  # fmt: skip
    assert found["missing"] == [] and found["unchecked"] == ["abc"] and found["unfollowed"] == {}
    build = plan.of_stage("build")[0]
    assert found["steps"][build.key]["parents"] == list(build.parents)


def test_the_time_of_a_plan_is_of_what_a_run_would_do_with_its_limits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of a check that reached a lower limit, without which the model's cells are refused."""
    monkeypatch.chdir(tmp_path)
    (check,) = plan_of(tmp_path).of_stage("check")
    store = Store(tmp_path / "r" / "store")
    failure = Failure("check", check.key, "x", "too slow", FailureKind.TIMEOUT, 60.0)
    store.record_failure(failure, None)

    def shown(*overrides: str) -> dict[str, Any]:
        words = ["farm", "plan", "m.yaml", *overrides, "--json", "--results", f"{tmp_path}/r"]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        return dict(json.loads(capsys.readouterr().out))

    assert shown("limits.check=60s")["estimated_s"] == 0
    assert {cell["refused"] for cell in shown("limits.check=60s")["cells"]} == {"too slow"}
    raised = shown("limits.check=61s")
    assert raised["unchecked"] == ["abc"] and raised["estimated_s"] > 0
    assert {cell["refused"] for cell in raised["cells"]} == {None}
    assert store.failure(check.key) == failure  # a plan changes nothing
