"""What a sweep costs when there is nothing to do: each record is read once, and one plan made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import PROJECT

import farm.engine.checks
import farm.store
import farm.sweep
from farm.cli.results import Results
from farm.config.loader import load_matrix
from farm.plan import make_plan
from farm.plan.steps import Plan
from farm.store import Record
from farm.sweep import Choices, run_sweep

QUIET = Choices(executor="inline", mlflow=False)


def test_a_finished_sweep_reads_each_record_once_and_plans_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(PROJECT / "benchmarks")
    from null_sweep import write_matrix

    matrix, results = load_matrix(write_matrix(tmp_path, 8)), Results(tmp_path / "r")
    made, read = list[Plan](), list[str]()
    original = farm.store.read_record

    def planned(*arguments: Any) -> Plan:
        made.append(make_plan(*arguments))
        return made[-1]

    def noted(path: Path) -> Record:
        read.append(path.parent.name)
        return original(path)

    for module in (farm.sweep, farm.engine.checks):
        monkeypatch.setattr(module, "make_plan", planned)
    assert run_sweep(matrix, results, QUIET).exit_code == 0
    assert [bool(plan.unchecked) for plan in made] == [True, False]  # before the checks, and after
    made.clear()
    monkeypatch.setattr(farm.store, "read_record", noted)
    again = run_sweep(matrix, results, QUIET)
    assert len(made) == 1 and again.exit_code == 0
    assert len(read) == len(set(read)) and set(read) == set(again.plan.steps)
