"""A Ray cluster whose nodes are all on this machine, and an S3 server, for benchmarks.

Each node is a raylet with cores, GPUs, locks and a cache of its own, so that Ray and the farm take
it for a machine. The GPUs are a label for Ray and an `nvidia-smi` that names them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
from sleeping import NODE

PROJECT = Path(__file__).resolve().parent.parent
GPUS = {"L4": "NVIDIA L4, 8.9, 580.95.05", "A100": "NVIDIA A100-SXM4-80GB, 8.0, 580.95.05"}
"""What nvidia-smi says of one, by Ray's name of it."""

_VARIABLES = {
    "PYTHONPATH": os.pathsep.join([str(PROJECT), str(PROJECT / "benchmarks")]),
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_raylet_start_wait_time_s": "120",  # on a busy machine
    # Steps of seconds stand for steps of minutes: a process that starts anew would weigh as much.
    "RAY_idle_worker_killing_time_threshold_ms": "3600000",
    "OMP_NUM_THREADS": "1",
}


class SimulatedNodes:
    """The nodes of a cluster, of which the first that is added is Ray's head.

    folder: of the nodes' files, with a short name, since Ray makes sockets there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._names = set[str]()

    @cached_property
    def _cluster(self) -> Any:
        from ray.cluster_utils import Cluster

        return Cluster()

    @property
    def address(self) -> str:
        """Return where drivers find the cluster."""
        return str(self._cluster.address)

    def add(self, name: str, cores: int, gpu: str | None = None) -> None:
        """Add a node unless it is there, and wait until Ray counts it as one."""
        if name in self._names:
            return
        self._names.add(name)
        own = self.folder / name
        own.mkdir()
        env = {NODE: name, "FARM_LOCKS": str(own), "FARM_CACHE": str(own / "cache")}
        more: dict[str, Any] = {}
        if gpu:
            program = own / "nvidia-smi"
            program.write_text(f"#!/bin/sh\necho '{GPUS[gpu]}'\n")
            program.chmod(0o755)
            env["PATH"] = f"{own}{os.pathsep}{os.environ['PATH']}"
            more = {"num_gpus": 1, "resources": {f"accelerator_type:{gpu}": 1}}
        self._cluster.add_node(
            num_cpus=cores, env_vars=env, include_dashboard=False, object_store_memory=100 << 20,
            **more,
        )  # fmt: skip

    def close(self) -> None:
        """End all of them."""
        if self._names:
            self._cluster.shutdown()


@contextmanager
def simulated_nodes(**variables: str) -> Iterator[SimulatedNodes]:
    """A cluster without nodes for the block. variables: of the environment, for all nodes."""
    folder = Path(tempfile.mkdtemp(prefix="fb"))
    cache = str(folder / "driver")
    own = {**_VARIABLES, "RAY_TMPDIR": str(folder), "FARM_CACHE": cache, **variables}
    before = dict(os.environ)
    os.environ.update(own)
    os.environ.pop("RAY_ADDRESS", None)
    try:
        nodes = SimulatedNodes(folder)
        try:
            yield nodes
        finally:
            nodes.close()
    finally:
        os.environ.clear()
        os.environ.update(before)
        shutil.rmtree(folder, ignore_errors=True)


def cpu_seconds(process: psutil.Process | None = None) -> float:
    """Return the CPU that a process has used, by default this one, with all that it has started
    and those of them that have ended."""
    root = process or psutil.Process()
    total = 0.0
    for one in (root, *root.children(recursive=True)):
        try:
            total += sum(one.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return total


class S3Server:
    """moto's server with S3's interface, and one bucket in it."""

    def __init__(self) -> None:
        command = [sys.executable, str(PROJECT / "tests" / "s3_server.py")]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        address = f"http://127.0.0.1:{int(self._line())}"
        self.variables = {
            "AWS_ENDPOINT_URL": address,
            "AWS_ACCESS_KEY_ID": "farm",
            "AWS_SECRET_ACCESS_KEY": "farm",
            "AWS_METADATA_ENDPOINT": "http://127.0.0.1:9",  # this machine has no role
        }
        self.bucket = "bench"
        request = urllib.request.Request(f"{address}/{self.bucket}", method="PUT")
        urllib.request.urlopen(request).close()

    def cpu_seconds(self) -> float:
        """Return the CPU that it has used."""
        return cpu_seconds(psutil.Process(self._process.pid))

    def requests(self) -> Counter[str]:
        """Return how many requests came since the last call, by method and kind of object."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return Counter(json.loads(self._line()))

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def close(self) -> None:
        """End it."""
        self._process.communicate()  # closes its standard input, with which it ends
