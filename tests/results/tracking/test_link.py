"""The link to a sweep in MLflow's pages: where it leads, and that it has no secrets."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from farm.results.tracking import link, own_file

RUNS = (
    "/runs?workflowType=machine_learning&orderByKey=metrics.%60latency_p50_ms%60&orderByAsc=true"
    "&searchFilter=params.sweep%20%3D%20%27s%27"
)


def note(results: Path, server: str, experiment: str = "7") -> None:
    (results / "tracked").mkdir(exist_ok=True)
    text = json.dumps({"server": server, "experiment": experiment, "cells": {}})
    (results / "tracked/other.json").write_text(text)


def test_the_own_database_needs_its_pages_started(tmp_path: Path, tracked: Path) -> None:
    own = own_file.address(tmp_path)
    said = [f"MLflow: mlflow ui --backend-store-uri {own}"]
    expected = [*said, f"  then http://127.0.0.1:5000/#/experiments/1{RUNS}"]
    assert list(link.lines("s", tmp_path, own)) == expected  # before there is one
    (tmp_path / "mlflow.db").write_bytes(tracked.read_bytes())
    assert list(link.lines("s", tmp_path, own)) == expected
    (tmp_path / "mlflow.db").write_bytes(b"x" * 4096)
    assert list(link.lines("s", tmp_path, own)) == expected


def test_the_experiment_is_that_of_the_database(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as own, own:
        own.execute("CREATE TABLE experiments (experiment_id INTEGER, name TEXT)")
        own.execute("INSERT INTO experiments VALUES (0, 'Default'), (4, 'farm')")
    uri = own_file.address(tmp_path)
    assert [*link.lines("s", tmp_path, uri)][1] == (
        f"  then http://127.0.0.1:5000/#/experiments/4{RUNS}"
    )
    another = f"sqlite:///{tmp_path / 'another.db'}"  # of the user's: nothing is known of it
    assert len([*link.lines("s", tmp_path, another)]) == 1


def test_a_server_is_named_without_its_password(tmp_path: Path) -> None:
    uri = "https://bob:s3cr3t@mlflow.example:8443/base/?token=t0p"
    assert list(link.lines("s", tmp_path, uri)) == ["MLflow: https://mlflow.example:8443/base"]
    note(tmp_path, "https://***@mlflow.example:8443/base/?***")
    expected = f"MLflow: https://mlflow.example:8443/base/#/experiments/7{RUNS}"
    assert list(link.lines("s", tmp_path, uri)) == [expected]
    assert list(link.lines("s", tmp_path, "http://another")) == ["MLflow: http://another"]


@pytest.mark.parametrize("secret", ["pa/ss", "p#w", "pa[ss", "p@ss?x"])
def test_no_part_of_a_password_is_shown(secret: str, tmp_path: Path) -> None:
    (said,) = link.lines("s", tmp_path, f"http://me:{secret}@host:5000/p")
    assert said == "MLflow: http://host:5000/p"


def test_another_database_is_named_by_its_variable(tmp_path: Path) -> None:
    uri = "postgresql://bob:s3cr3t@host/mlflow"
    said = ['MLflow: mlflow ui --backend-store-uri "$MLFLOW_TRACKING_URI"']
    assert list(link.lines("s", tmp_path, uri)) == said
    note(tmp_path, "postgresql://***@host/mlflow")
    assert list(link.lines("s", tmp_path, uri)) == [
        *said, f"  then http://127.0.0.1:5000/#/experiments/7{RUNS}",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"server": "http://a", "experiment": "<b>"}'])
def test_a_note_that_is_damaged_is_passed_over(text: str, tmp_path: Path) -> None:
    (tmp_path / "tracked").mkdir()
    (tmp_path / "tracked/s.json").write_text(text)
    assert list(link.lines("s", tmp_path, "http://a")) == ["MLflow: http://a"]
