"""Texts, files and runs of results to the last digit: limits, orders, secrets, moments."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from rows import row

from farm.errors import InputError
from farm.results import leaderboard, tracking
from farm.results.picking.criteria import Criteria
from farm.results.picking.select import pick
from farm.results.tables.escaping import without_secrets
from farm.results.tables.render import render, render_by_class


def test_the_most_that_may_be_lost_is_half_a_point_unless_it_is_said() -> None:
    assert Criteria().max_ap_drop == 0.5
    for lost, kept in ((0.005, True), (0.0050001, False)):
        assert (pick([row("x", box_ap_drop=lost)], Criteria()).best is not None) == kept


def test_an_empty_key_is_none_and_an_empty_text_is_a_text(tmp_path: Path) -> None:
    rows = [row("x", export_key="", fallback="", device="")]
    leaderboard.write(rows, tmp_path, "s")
    (found,) = leaderboard.read(tmp_path)
    assert (found["export_key"], found["fallback"], found["device"]) == ("", "", "")


@pytest.mark.parametrize("limit", ["bytes", "rows"])
def test_a_leaderboard_that_unpacks_to_more_than_the_limit_is_refused(
    limit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = 4000 if limit == "rows" else 1
    (path,) = leaderboard.write([row("x")] * rows, tmp_path, "s")
    groups = pq.read_metadata(path)
    most = rows << 8 if limit == "rows" else groups.row_group(0).total_byte_size
    monkeypatch.setattr(leaderboard, "read_bytes", lambda path, _: path.read_bytes())
    monkeypatch.setattr(leaderboard, "_MOST_BYTES", most)
    assert len(leaderboard.read(tmp_path)) == rows
    monkeypatch.setattr(leaderboard, "_MOST_BYTES", most - 1)
    with pytest.raises(InputError, match=f"it unpacks to more than {most - 1} bytes; remove it"):
        leaderboard.read(tmp_path)


def test_json_has_an_element_a_line() -> None:
    rows = [row("x", box_ap_by_class='{"a": 0.5}', mask_ap_by_class=None)]
    for text in (render(rows, "json"), render_by_class(rows, "json")):
        lines = text.splitlines()
        assert lines[:2] == ["[", " {"] and lines[2].startswith('  "')
        assert json.loads(text)


def test_the_longest_secret_is_hidden_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "abc")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "abcdef")
    assert without_secrets("abcdef, abc and ab", "http://h") == "***, *** and ab"
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "xabc")
    assert without_secrets("xabc", "http://h") == "***"


def test_figures_are_logged_at_the_moment_of_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    before = time.time() * 1000
    assert tracking.log_sweep("s", [row("x")], {"x": tracking.Evidence()}, tmp_path)
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=tracking.tracking_uri(tmp_path))
    experiment = client.get_experiment_by_name(tracking.EXPERIMENT)
    assert experiment is not None
    names = {"sweep": "cells", "cell": "latency_p50_ms"}
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.data.tags["farm.kind"] for run in runs) == sorted(names)
    for run in runs:
        name = names[run.data.tags["farm.kind"]]
        (metric,) = client.get_metric_history(run.info.run_id, name)
        assert before - 1 <= metric.timestamp <= time.time() * 1000 + 1
        assert metric.step == 0
