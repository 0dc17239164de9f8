"""A sweep by Ray whose nodes share no folder: its results are those of a folder, row by row."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import PROJECT, Farm
from faults import Proxy
from object_stores import S3
from rows import is_measured

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster(s3_server: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of two nodes, each with a disk of its own, and the folder of their disks."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    disks, folder = tmp_path_factory.mktemp("disks"), tempfile.mkdtemp(prefix="ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        patch.setenv("RAY_TMPDIR", folder)
        patch.delenv("RAY_ADDRESS", raising=False)
        for name, value in s3_server.variables.items():
            patch.setenv(name, value)
        found = Cluster()
        for number in range(2):
            found.add_node(
                num_cpus=1, include_dashboard=False, object_store_memory=100 << 20,
                env_vars={"FARM_CACHE": str(disks / str(number))},
            )  # fmt: skip
        found.wait_for_nodes()
        yield found.address, disks
        found.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


def rows(farm: Farm, results: object, **variables: str) -> dict[str, dict[str, Any]]:
    done = farm("leaderboard", "--format", "json", "--results", results, env=variables)
    assert done.returncode == 0, done.stderr
    found = {row["cell"]: row for row in json.loads(done.stdout)}
    return {
        cell: {name: value for name, value in row.items() if not is_measured(name)}
        for cell, row in found.items()
    }


def test_a_sweep_without_a_shared_folder_has_the_rows_of_one_with_it(
    cluster: tuple[str, Path],
    farm: Farm,
    s3: S3,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(PROJECT / "benchmarks")
    from null_sweep import write_matrix

    address, disks = cluster
    matrix = write_matrix(tmp_path / "m", 8)
    place = f"s3://{s3.bucket()}/team/results"
    done = farm("run", matrix, "--results", place, "--address", address)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "MLflow: mlflow ui --backend-store-uri sqlite:///" in done.stderr
    folder = farm("run", matrix, "--results", tmp_path / "r", "--executor", "inline", "--no-mlflow")
    assert folder.returncode == 0, folder.stderr
    own = {"FARM_CACHE": str(tmp_path / "elsewhere")}
    assert rows(farm, place, **own) == rows(farm, tmp_path / "r")
    for disk in ("0", "1"):  # both have worked, each on its own disk
        assert [*(disks / disk).glob("*/store/*/??/*/record.json")], disk

    again = farm("run", matrix, "--results", place, "--executor", "inline", "--no-mlflow", env=own)
    assert again.returncode == 0 and "steps to do" not in again.stderr
    assert "64 artifacts" not in farm("store", "verify", "--results", place, env=own).stderr
    best = farm("best", "--target", "cpu", "--json", "--results", place, env=own)
    files = json.loads(best.stdout)["targets"][0]["picks"][0]["files"]
    assert Path(files["onnx"]).is_file()
    assert Path(files["engine"]).is_dir()


def test_a_sweep_over_a_bad_network_ends_with_the_same_rows(
    s3_server: S3, farm: Farm, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(PROJECT / "benchmarks")
    from null_sweep import write_matrix

    matrix, place = write_matrix(tmp_path / "m", 4), f"s3://{s3.bucket()}/r"
    requests = itertools.count()
    faults = {7: "503", 17: "lost", 23: "cut", 41: "slow"}

    def rule(method: str, path: str, before: int) -> str:
        number = next(requests)
        return next((fault for every, fault in faults.items() if number % every == 0), "")

    proxy = Proxy(s3_server.port)
    proxy.rule = rule
    words = ("--executor", "inline", "--no-mlflow")
    bad = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}"}
    done = farm("run", matrix, "--results", place, *words, env=bad)
    proxy.close()
    assert done.returncode == 0, done.stdout + done.stderr
    folder = farm("run", matrix, "--results", tmp_path / "r", *words)
    assert folder.returncode == 0, folder.stderr
    assert rows(farm, place) == rows(farm, tmp_path / "r")
    verified = farm("store", "verify", "--results", place)
    assert verified.returncode == 0 and "all are whole" in verified.stdout
    assert next(requests) > 200
