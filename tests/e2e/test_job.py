"""`ray job submit`: the demo's sweep as a job on the cluster of `cluster/local.sh`."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import psutil
import pytest
from conftest import PROJECT, wait_for

pytestmark = pytest.mark.slow

RAY = Path(sys.executable).with_name("ray")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment() -> dict[str, str]:
    """As of a shell in which the farm's environment is active, and no cluster known."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("FARM_", "MLFLOW_", "RAY_"))}
    return {**clean, "PATH": f"{RAY.parent}:{clean['PATH']}"}


@dataclass(frozen=True)
class Cluster:
    """A cluster of `cluster/local.sh`: its folder, and the process that ends with it."""

    folder: Path
    process: psutil.Process

    def ray(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run `ray WORDS` as the script's own comment says, with other variables if need be."""
        command = f'source {self.folder}/environment; exec env "$@"'
        given = [f"{name}={value}" for name, value in variables.items()]
        return subprocess.run(
            ["bash", "-c", command, "bash", *given, "ray", *words],
            cwd=PROJECT,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=1800,
            check=False,
        )

    def submit(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `farm.run WORDS` as a job."""
        command = ("job", "submit", "--working-dir", ".", "--", "python", "-m", "farm.run", *words)
        until = time.monotonic() + 120
        done = self.ray(*command)
        while "No available agent" in done.stdout + done.stderr:  # the head is still starting
            assert time.monotonic() < until, done.stdout + done.stderr
            time.sleep(1)
            done = self.ray(*command)
        return done


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder, port = tmp_path_factory.mktemp("cluster"), free_port()
    ports = {"PORT": str(free_port()), "CLIENT_PORT": str(free_port()), "DASHBOARD_PORT": str(port)}
    script = [str(PROJECT / "cluster" / "local.sh"), str(folder)]
    own = {**environment(), **ports, "CPUS": "2"}
    head = subprocess.Popen(script, env=own, start_new_session=True)
    try:
        wait_for(lambda: listens(port) or head.poll() is not None, 180)
        assert head.poll() is None, "the head node has ended"
        process = psutil.Process(head.pid)
        started = process.children(recursive=True)
        yield Cluster(folder, process)
    finally:
        head.terminate()
        head.wait()
    _, alive = psutil.wait_procs(started, timeout=60)
    assert alive == []


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_matrix_runs_as_a_job_and_its_results_land_where_they_should(
    cluster: Cluster, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    small = ("opsets=[17]", "measure.seconds=0.2", "dataset.count=16")
    done = cluster.submit("matrices/demo.yaml", *small, "--results", str(results))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "succeeded" in done.stdout + done.stderr
    assert "12 cells, 0 failed" in done.stdout
    table = pd.read_parquet(results / "leaderboard")
    assert len(table) == 12 and set(table.status) == {"ok"}
    assert (results / "mlflow.db").is_file()


def test_a_job_with_wrong_input_fails_and_says_why(cluster: Cluster, tmp_path: Path) -> None:
    words = ("matrices/demo.yaml", "opsets=[99]", "--results", str(tmp_path))
    done = cluster.submit(*words)
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert "unknown opset 99" in said
    assert "exit code 2" in said and "failed" in said


def test_a_job_refuses_to_leave_results_in_rays_temporary_folder(cluster: Cluster) -> None:
    done = cluster.submit("matrices/demo.yaml", "--results", "here")
    assert done.returncode == 1
    assert "would be in Ray's temporary folder" in done.stdout + done.stderr


def test_nobody_takes_part_in_the_cluster_without_its_token(cluster: Cluster) -> None:
    tried = cluster.ray("job", "list", RAY_AUTH_TOKEN="0" * 64)
    assert tried.returncode != 0
    assert "token is invalid or incorrect" in tried.stdout + tried.stderr
    ours = [cluster.process, *cluster.process.children(recursive=True)]
    sockets = [one for each in ours for one in each.net_connections() if one.status == "LISTEN"]
    assert len(sockets) >= 8
    assert {one.laddr.ip.removeprefix("::ffff:") for one in sockets} == {"127.0.0.1"}
    words = [word.rpartition("=")[2] for each in ours for word in each.cmdline()]
    private = {cluster.folder, *(Path(word).parent for word in words if word.endswith("/r"))}
    assert len(private) == 2
    assert all(one.stat().st_mode & 0o777 == 0o700 for one in private)
    assert (cluster.folder / "token").stat().st_mode & 0o777 == 0o600
