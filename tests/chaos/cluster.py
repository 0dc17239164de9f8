"""A Ray cluster of several nodes on this machine, each of which can be killed, frozen and replaced.

Node 0 is the head, beside which the drivers run. Every node has an address and locks of its own, so
that they are machines to Ray and to the farm.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path

from chaos.processes import Kind, Processes

HEAD, WORKERS, LATE = 0, (1, 2), 3
"""The numbers of the nodes; LATE is one that joins."""

_TRIES = 3
"""How often a node is started that does not come up: a busy machine may be too slow for Ray."""

_VARIABLES = {
    # A lost node is noticed within seconds, so that sweeps of seconds see it.
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "10",
    "RAY_raylet_start_wait_time_s": "120",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "OMP_NUM_THREADS": "1",
}


class Cluster:
    """The nodes, of one core each.

    folder: for sockets, so with a short name. paths: where the nodes find modules. variables: more
    environment variables of nodes and drivers.
    """

    def __init__(
        self, folder: Path, paths: Iterable[Path], variables: Mapping[str, str] | None = None
    ) -> None:
        self.folder, self.address = folder, ""
        self.processes = Processes(folder.name)
        self.variables = {
            **{
                k: v
                for k, v in os.environ.items()
                if not k.startswith(("FARM_", "MLFLOW_", "RAY_"))
            },
            **_VARIABLES,
            **self.processes.variables(),
            "HOME": str(folder),
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_TMPDIR": str(folder / "ray"),
            "TMPDIR": str(self.temporary),
            "FARM_LOCKS": str(folder / "locks"),
            "FARM_CACHE": str(self._cache()),
            **(variables or {}),
        }
        for name in (self.temporary, folder / "ray", folder / "locks"):
            name.mkdir(parents=True)

    @property
    def temporary(self) -> Path:
        """The folder for temporary files of the nodes and drivers."""
        return self.folder / "tmp"

    def _cache(self, node: int | None = None) -> Path:
        """The folder that a node has of object stores; None: that of the drivers."""
        return self.folder / ("cache" if node is None else f"cache-{node}")

    def caches(self) -> list[Path]:
        """Return the folders that the drivers and each node have of object stores."""
        return [self._cache(node) for node in (None, HEAD, *WORKERS, LATE)]

    def start(self) -> None:
        """Start all nodes.

        Raises:
            RuntimeError: one does not come up.
        """
        port, client = _free_ports(2)
        self.address = f"127.0.0.1:{port}"
        words = f"--head --port {port} --include-dashboard false --ray-client-server-port {client}"
        self._start({HEAD: words.split()})
        self.join(WORKERS)

    def join(self, nodes: Iterable[int]) -> None:
        """Let nodes join, which are not there. Raises RuntimeError as `start` does."""
        self._start({node: ["--address", self.address] for node in nodes})

    def begin(self, node: int, words: list[str] | None = None) -> subprocess.Popen[bytes]:
        """Begin to start a node; by default one that joins. Ends with 0 when it is up."""
        number = str(node)
        ray = Path(sys.executable).with_name("ray")
        command = [str(ray), "start", *(words or ["--address", self.address])]
        command += ["--node-ip-address", f"127.0.0.{node + 1}", "--num-cpus", "1"]
        command += ["--object-store-memory", str(80 << 20), "--include-log-monitor", "false"]
        # Nodes that start at the same time would give their sockets the same names in one folder.
        command += ["--temp-dir", str(self.folder / f"r{number}"), "--disable-usage-stats"]
        locks = self.folder / f"locks-{number}"
        locks.mkdir(exist_ok=True)
        with (self.folder / f"node-{number}.log").open("ab") as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
                env={
                    **self.variables, **self.processes.variables(node), "FARM_LOCKS": str(locks),
                    "FARM_CACHE": str(self._cache(node)),
                },
                start_new_session=True,
            )  # fmt: skip

    def repair(self) -> str:
        """Bring the cluster back to what `start` makes. Returns what had to be done, in words."""
        for process in self.processes.find(None):
            if process.node is not None:
                self.processes.send(process, signal.SIGCONT)
        if self.processes.find(HEAD, Kind.GCS) and self.processes.find(HEAD, Kind.RAYLET):
            dead = [node for node in WORKERS if not self.processes.find(node, Kind.RAYLET)]
            for node in dead:
                self.processes.kill_all(node)
            self.join(dead)
            self.remove_late()
            return f"started nodes {dead} again" if dead else ""
        self.stop()
        self.start()
        return "started the cluster again"

    def remove_late(self) -> None:
        """End the nodes that are not the cluster's own."""
        for node in {one.node for one in self.processes.find()} - {None, HEAD, *WORKERS}:
            self.processes.kill_all(node)

    def stop(self) -> None:
        """End all processes of the nodes."""
        nodes = {one.node for one in self.processes.find()} - {None}
        for node in nodes:
            self.processes.kill_all(node)

    def _start(self, nodes: dict[int, list[str]]) -> None:
        """Start nodes beside each other."""
        for _ in range(_TRIES):
            starters = {node: self.begin(node, words) for node, words in nodes.items()}
            nodes = {node: nodes[node] for node, one in starters.items() if one.wait()}
            if not nodes:
                return
            for node in nodes:
                self.processes.kill_all(node)
        log = self.folder / f"node-{next(iter(nodes))}.log"
        raise RuntimeError(f"nodes {list(nodes)} do not start: {log.read_text()[-2000:]}")


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
