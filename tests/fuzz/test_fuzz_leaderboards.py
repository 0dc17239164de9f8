"""Any leaderboard: shown, with the right engine picked, or a reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bounds import JUNK, TEXT, fuzzed, leaving_no_trace, reason
from conftest import PROJECT
from hypothesis import strategies as st

from farm.config.loader import load_matrix
from farm.errors import InputError
from farm.plan import make_plan
from farm.results import leaderboard
from farm.results.picking.answers import Answer, answer_as_json, answers_as_text
from farm.results.picking.criteria import Criteria
from farm.results.picking.select import pick
from farm.results.rows import make_rows
from farm.results.tables.render import FORMATS, render
from farm.store import Store


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def blank(folder: Path) -> dict[str, Any]:
    """A row with every column."""
    matrix = load_matrix(PROJECT / "matrices" / "demo.yaml", ["runtimes=[torch]"])
    plan = make_plan(matrix)
    return make_rows(plan, Store(folder / "none"), matrix.spec.verify, {})[0]


ap = st.integers(0, 1000).map(lambda value: value / 1000)
right_row = st.fixed_dictionaries(
    {
        "model": st.sampled_from(["a", "b"]),
        "target": st.sampled_from(["cpu", "l4"]),
        "status": st.sampled_from(["ok", "ok", "failed"]),
        "box_ap": ap,
        "box_ap_reference": ap,
        "latency_p50_ms": st.integers(1, 10**6).map(lambda value: value / 1000),
        "samples": st.integers(1, 1000),
    }
)


def rows_of(blank: dict[str, Any], drawn: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for i, own in enumerate(drawn):
        row = blank | own | {"cell": f"{own['model']}.{i}", "sweep": "fuzz"}
        row["box_ap_drop"] = row["box_ap_reference"] - row["box_ap"]
        row["throughput_per_s"] = 1000 / row["latency_p50_ms"]
        row |= {"failed_stage": "build", "reason": "no"} if row["status"] == "failed" else {}
        rows.append(row)
    return rows


def shown(rows: list[dict[str, Any]]) -> None:
    """Everything that the commands do with rows."""
    for form in FORMATS:
        text = render(rows, form)
        if form == "json":
            json.loads(text, parse_constant=pytest.fail)
    for objective in ("latency", "throughput", "ap"):
        for wish in (Criteria(objective), Criteria(objective, confident=True, max_latency_ms=1)):
            found = {"m": pick(rows, wish)}
            answer = Answer("cpu", ("fuzz",), ("other",), found, {}, 1)
            assert answers_as_text([answer]) and answers_as_text([answer, answer])
            json.dumps(answer_as_json(answer))


@fuzzed(st.lists(right_row, min_size=1, max_size=6), share=1 / 3)
def test_a_right_leaderboard_gives_the_fastest_that_keeps_its_ap(
    folder: Path, blank: dict[str, Any], drawn: list[dict[str, Any]]
) -> None:
    rows = rows_of(blank, drawn)
    leaderboard.write(rows, folder, "fuzz")
    with leaving_no_trace(folder):
        again = leaderboard.read(folder)
        shown(again)
    assert sorted(row["cell"] for row in again) == sorted(row["cell"] for row in rows)
    fit = [
        row["latency_p50_ms"]
        for row in rows
        if row["status"] == "ok" and row["box_ap_reference"] - row["box_ap"] <= 0.005 + 1e-11
    ]
    best = pick(again, Criteria()).best
    assert (best["latency_p50_ms"] if best else None) == min(fit, default=None)


@fuzzed(
    st.lists(right_row, min_size=1, max_size=3),
    st.dictionaries(st.integers(0, 80), st.sampled_from(["gone", "text", "whole", "junk"])),
    st.dictionaries(TEXT, st.integers(-(2**63), 2**63 - 1) | TEXT, max_size=2),
    JUNK,
    share=1 / 3,
)
def test_a_leaderboard_of_other_columns_is_shown_or_refused(
    folder: Path, blank: dict[str, Any], drawn: Any, how: Any, more: dict[str, Any], junk: Any
) -> None:
    rows = rows_of(blank, drawn)
    columns = {name: [row[name] for row in rows] for name in blank}
    for number, change in how.items():
        name = list(blank)[number % len(blank)]
        if change == "gone":
            columns.pop(name, None)
        else:
            value = {"text": "x", "whole": 7, "junk": repr(junk)}[change]
            columns[name] = [value] * len(rows)
    columns |= {name: [value] * len(rows) for name, value in more.items()}
    written(folder, pa.table(columns))


@fuzzed(st.lists(right_row, min_size=1, max_size=2), st.data(), share=1 / 3)
def test_a_torn_leaderboard_is_shown_or_refused(
    folder: Path, blank: dict[str, Any], drawn: Any, data: Any
) -> None:
    (path,) = leaderboard.write(rows_of(blank, [drawn[0]]), folder, "fuzz")
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.sampled_from([None, -1, 100, 0]))])
    read_or_refused(folder)


def written(folder: Path, table: pa.Table) -> None:
    for old in (folder / "leaderboard").glob("*/*/*.parquet"):
        old.unlink()
    path = folder / "leaderboard" / "target=cpu" / "sweep=fuzz" / "leaderboard.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    read_or_refused(folder)


def read_or_refused(folder: Path) -> None:
    try:
        with leaving_no_trace(folder):
            shown(leaderboard.read(folder))
    except InputError as error:
        reason(error)
