"""Whatever the store has for a step: its record, or none; and rows that can be shown."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import record_strategies as made
from bounds import JUNK, fuzzed, leaving_no_trace, reason
from conftest import PROJECT
from hypothesis import strategies as st

from farm.config.loader import load_matrix
from farm.errors import InputError
from farm.plan import Plan, make_plan
from farm.results import leaderboard
from farm.results.picking.criteria import Criteria
from farm.results.picking.select import pick
from farm.results.rows import make_rows
from farm.results.tables.render import FORMATS, render
from farm.specs import ModelFacts, Ref
from farm.store import Failure, Record, Store
from farm.store.facts import facts_from
from farm.store.records import digest_of

KEY = "ab" + "0" * 62


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def plan() -> Plan:
    one = "models={a: {config: demo/onestage.py, checkpoint: demo/onestage.pth}}"
    words = [one, "runtimes=[onnxruntime]", "shapes={fixed: {opt: 160x160}}", "opsets=[17]"]
    return make_plan(load_matrix(PROJECT / "matrices" / "demo.yaml", words))


def kept(folder: Path, ref: Ref, data: bytes) -> Store:
    """A store with nothing but these bytes as the step's record and as its failure."""
    shutil.rmtree(folder / "store", ignore_errors=True)
    store = Store(folder / "store")
    for place in (store.path(ref) / "record.json", store.root / "failed" / f"{ref.key}.json"):
        place.parent.mkdir(parents=True)
        place.write_bytes(data)
    return store


def sealed(record: dict[str, Any]) -> dict[str, Any]:
    """With its own digest, or nothing but that would be looked at."""
    try:
        return {"digest": digest_of(record), **record}
    except (TypeError, ValueError, RecursionError):
        return record


@fuzzed(made.figures, made.changes(), st.none() | st.integers(0, 300), share=1 / 3)
def test_a_record_is_itself_or_none(
    folder: Path, figures: dict[str, Any], changes: dict[str, Any], cut: int | None
) -> None:
    whole = not changes and cut is None
    facts = asdict(ModelFacts(("a",), False, "[]"))
    right, ref = made.right_record("check", KEY, facts if whole else figures), Ref("check", KEY)
    store = kept(folder, ref, made.as_bytes(sealed(right | changes), cut))
    with leaving_no_trace(folder):
        try:
            record, failure = store.any_record(ref), store.failure(KEY)
            found = facts_from(store)(KEY)
        except InputError as error:
            reason(error)
            return
    assert failure is None
    if whole:
        assert isinstance(record, Record) and json.dumps(record.figures) == json.dumps(facts)
        assert found == ModelFacts(("a",), False, "[]")


@fuzzed(
    st.dictionaries(st.sampled_from(["stage", "key", "label", "reason", "x"]), JUNK), share=1 / 3
)
def test_a_failure_is_itself_or_none(folder: Path, values: dict[str, Any]) -> None:
    store = kept(folder, Ref("check", KEY), made.as_bytes(values, None))
    try:
        failure, facts = store.failure(KEY), facts_from(store)(KEY)
    except InputError as error:
        reason(error)
        return
    if failure is not None:
        assert isinstance(failure, Failure) and isinstance(failure.reason, str)
        assert facts is not None and facts.refused == failure.reason


@fuzzed(st.lists(made.figures, min_size=1, max_size=4), made.changes(), share=1 / 3)
def test_rows_of_any_records_can_be_kept_and_shown(
    folder: Path, plan: Plan, figures: list[dict[str, Any]], changes: dict[str, Any]
) -> None:
    shutil.rmtree(folder / "rows", ignore_errors=True)
    store = Store(folder / "rows" / "store")
    for i, step in enumerate(plan.steps.values()):
        place = store.path(step.ref) / "record.json"
        place.parent.mkdir(parents=True)
        right = made.right_record(step.stage, step.key, figures[i % len(figures)])
        place.write_text(json.dumps(right | (changes if i % 3 == 0 else {})))
    limits = load_matrix(PROJECT / "matrices" / "demo.yaml").spec.verify
    try:
        rows = make_rows(plan, store, limits, {})
        assert [row["cell"] for row in rows] == [one.cell.id for one in plan.cells]
        leaderboard.write(rows, folder / "rows", plan.name)
        again = leaderboard.read(folder / "rows")
        assert all(render(again, form) for form in FORMATS)
        pick(again, Criteria())
    except InputError as error:
        reason(error)
