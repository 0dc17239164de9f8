"""Texts, files and runs of results to the last digit: limits, orders, secrets, moments."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from rows import row

from farm.results import leaderboard, tracking
from farm.results.escaping import without_secrets
from farm.results.select import Criteria, pick
from farm.results.tables import render, render_by_class


def why(latency: float, first: dict[str, object], second: dict[str, object]) -> bool:
    """Whether the gap from 1.0 ms to this is said to be noise."""
    rows = [row("x", latency_p50_ms=1.0, **first), row("y", latency_p50_ms=latency, **second)]
    text = pick(rows, Criteria()).why
    assert "next is y" in text
    return text.endswith(" (within the noise: either is as good)")


def test_a_gap_of_exactly_twice_the_error_is_no_noise() -> None:
    values = {"latency_cov": 0.25, "samples": 1}
    assert not why(1.5, values, values) and why(1.4999, values, values)


@pytest.mark.parametrize("many", [None, 400])
@pytest.mark.parametrize("turned", [False, True])
def test_where_the_samples_are_not_known_the_error_is_that_of_one(
    many: int | None, turned: bool
) -> None:
    few = {"latency_cov": 0.25, "samples": None}
    both = [few, {"latency_cov": 0.25, "samples": many}]
    first, second = reversed(both) if turned else both
    assert why(1.45, first, second) and not why(1.55, first, second)


@pytest.mark.parametrize("turned", [False, True])
def test_where_the_spread_is_not_known_it_counts_for_none(turned: bool) -> None:
    both = [{"latency_cov": None, "samples": 4}, {"latency_cov": 0.5, "samples": 4}]
    first, second = reversed(both) if turned else both
    assert why(1.45, first, second) and not why(1.55, first, second)
    none = {"latency_cov": None, "samples": 4}
    assert not why(1.01, none, none)


def test_the_most_that_may_be_lost_is_half_a_point_unless_it_is_said() -> None:
    assert Criteria().max_ap_drop == 0.5
    for lost, kept in ((0.005, True), (0.0050001, False)):
        assert (pick([row("x", box_ap_drop=lost)], Criteria()).best is not None) == kept


def test_an_empty_key_is_none_and_an_empty_text_is_a_text(tmp_path: Path) -> None:
    rows = [row("x", export_key="", fallback="", device="")]
    leaderboard.write(rows, tmp_path, "s")
    (found,) = leaderboard.read(tmp_path)
    assert (found["export_key"], found["fallback"], found["device"]) == ("", "", "")


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
    assert tracking.log_sweep("s", [row("x")], {"x": {}}, tmp_path)
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
