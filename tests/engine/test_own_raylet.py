"""The raylet through which a driver submits steps dies while none of its steps is under way."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # a Ray cluster of its own

_DRIVER = """
import os, signal, sys, time
import psutil, ray
from own_stage import step
from ray.cluster_utils import Cluster
from farm.engine.cluster.executor import RayExecutor
from farm.engine.estimates import Estimates
from farm.engine.workers.limits import Limits
from farm.errors import ClusterLost
from farm.store import Store

more = {"object_store_memory": 100 << 20}
cluster = Cluster(
    initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **more}
)
cluster.add_node(num_cpus=1, **more)
executor = RayExecutor(Store(sys.argv[1]), cluster.address, Limits(), 0.0)
first = step("")
executor.admit([first], Estimates())
own = f"--node_id={ray.get_runtime_context().get_node_id()}"
(raylet,) = (one for one in psutil.process_iter(["cmdline"]) if own in (one.info["cmdline"] or ()))
raylet.send_signal(signal.SIGKILL)
executor.take(first)
until, lost = time.monotonic() + 90, 0
try:
    while time.monotonic() < until:
        executor.wait()
except ClusterLost:
    lost = 1
for node in (*cluster.worker_nodes, cluster.head_node):
    node.kill_all_processes(check_alive=False, allow_graceful=False)
os._exit(not lost)  # Ray is not asked any more
"""

_SOON = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "3",
}
"""A node that is gone is noticed within seconds."""


def test_the_cluster_is_lost_though_it_answers(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        variables = {**os.environ, **_SOON, "RAY_TMPDIR": folder, "PYTHONPATH": ":".join(sys.path)}
        variables.pop("RAY_ADDRESS", None)
        driver = [sys.executable, "-c", _DRIVER, str(tmp_path / "store")]
        done = subprocess.run(driver, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
