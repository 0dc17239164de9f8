"""`ray job submit`: the demo's sweep as a job on a cluster that was started beforehand."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import psutil
import pytest
from conftest import PROJECT

pytestmark = pytest.mark.slow

RAY = Path(sys.executable).with_name("ray")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment() -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("FARM_", "MLFLOW_", "RAY_"))}
    # As after `source .venv/bin/activate` and `export RAY_AUTH_MODE=token`.
    return {**clean, "PATH": f"{RAY.parent}:{clean['PATH']}", "RAY_AUTH_MODE": "token"}


def ray(*words: str, timeout: float = 1800) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(RAY), *words],
        cwd=PROJECT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@pytest.fixture(scope="module")
def dashboard() -> Iterator[str]:
    """A head node bound to loopback; the address of its dashboard.

    It runs in the foreground of a process of its own, which ends it with all that it has started:
    `ray stop` would end every Ray of the machine.
    """
    port = free_port()
    words = f"start --head --block --node-ip-address 127.0.0.1 --port {free_port()} --num-cpus 2"
    words += f" --dashboard-host 127.0.0.1 --dashboard-port {port}"
    assert ray("get-auth-token", "--generate").returncode == 0
    command = [str(RAY), *words.split()]
    head = subprocess.Popen(command, cwd=PROJECT, env=environment(), start_new_session=True)
    try:
        while not listens(port):
            assert head.poll() is None, "the head node has ended"
            time.sleep(0.5)
        started = psutil.Process(head.pid).children(recursive=True)
        yield f"http://127.0.0.1:{port}"
    finally:
        head.terminate()
        head.wait()
    _, alive = psutil.wait_procs(started, timeout=60)
    assert alive == []


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def submit(dashboard: str, *command: str) -> subprocess.CompletedProcess[str]:
    words = ["job", "submit", "--address", dashboard, "--working-dir", ".", "--"]
    done = ray(*words, "python", "-m", "farm.run", *command)
    while "No available agent" in done.stdout + done.stderr:  # the head node is still starting
        time.sleep(1)
        done = ray(*words, "python", "-m", "farm.run", *command)
    return done


def test_a_matrix_runs_as_a_job_and_its_results_land_where_they_should(
    dashboard: str, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    small = ("opsets=[17]", "measure.seconds=0.2", "dataset.count=16")
    done = submit(dashboard, "matrices/demo.yaml", *small, "--results", str(results))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "succeeded" in done.stdout + done.stderr
    assert "12 cells, 0 failed" in done.stdout
    table = pd.read_parquet(results / "leaderboard")
    assert len(table) == 12 and set(table.status) == {"ok"}
    assert (results / "mlflow.db").is_file()


def test_a_job_with_wrong_input_fails_and_says_why(dashboard: str, tmp_path: Path) -> None:
    words = ("matrices/demo.yaml", "opsets=[99]", "--results", str(tmp_path))
    done = submit(dashboard, *words)
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert "unknown opset 99" in said
    assert "exit code 2" in said and "failed" in said


def test_a_job_refuses_to_leave_results_in_rays_temporary_folder(dashboard: str) -> None:
    done = submit(dashboard, "matrices/demo.yaml", "--results", "here")
    assert done.returncode == 1
    assert "would be in Ray's temporary folder" in done.stdout + done.stderr
