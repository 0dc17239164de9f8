"""What a cluster's nodes are: processor, GPUs, package versions, access to the store."""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from farm.engine.claims import EXPIRES_S, path_of
from farm.errors import InputError
from farm.files.lease import Lease
from farm.plan.content.packages import toolchain
from farm.plan.placement import Machine, cpu_model
from farm.plan.placement import gpus as local_gpus
from farm.specs import Gpu
from farm.store.objects import is_url
from farm.store.opening import open_objects

if TYPE_CHECKING:
    from farm.plan.steps import Step
    from farm.store import Store

log = logging.getLogger(__name__)

NodeReport = tuple[str, str, tuple[Gpu, ...], tuple[tuple[str, str], ...], str]
"""A node's name, processor, GPUs, package versions, and why it does not see the store, if so."""

_REFRESH_S = 30.0


@dataclass(frozen=True)
class Node:
    """A node of the cluster: a machine, by Ray's name for it."""

    id: str
    machine: Machine


class Nodes:
    """The nodes that are alive. Each reports once, and again if other packages matter."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, Node] = {}
        self._packages: set[str] = set()
        self._refreshed = float("-inf")

    def __iter__(self) -> Iterator[Node]:
        return iter(self._known.values())

    def __len__(self) -> int:
        return len(self._known)

    def learn_for(self, steps: Iterable[Step]) -> None:
        """Let every node report what these steps need to know of it."""
        own = (step for step in steps if step.environment is None)
        packages = {name for step in own for name, _ in step.toolchain}
        if not packages <= self._packages:
            self._packages |= packages
            self._known.clear()
        self._refreshed = float("-inf")
        self.refresh()

    def refresh(self, now: bool = False) -> None:
        """Find nodes that have joined or are gone, at most every 30 seconds, or now."""
        if not now and time.monotonic() - self._refreshed < _REFRESH_S:
            return
        self._refreshed = time.monotonic()
        known = ray.nodes()  # type: ignore[no-untyped-call]
        alive = {node["NodeID"]: node for node in known if node["Alive"]}
        self._known = {key: node for key, node in self._known.items() if key in alive}
        if new := [key for key in alive if key not in self._known]:
            self._learn({key: alive[key] for key in new})

    def _learn(self, new: Mapping[str, Mapping[str, Any]]) -> None:
        with _token(self._store) as token:
            reports = {key: _request(key, sorted(self._packages), token) for key in new}
            for key, ref in reports.items():
                self._known[key] = _node(new[key], *ray.get(ref, timeout=120))
                log.debug("node %s: %s", key[:12], self._known[key].machine)


@contextmanager
def _token(store: Store) -> Iterator[str]:
    """What a node sees if it sees the store: a folder in it, or the address of an object store."""
    if is_url(store.address):
        yield store.address
        return
    # Claimed as a step is: another sweep that starts would take the folder for abandoned.
    with Lease(path_of(store, "token"), EXPIRES_S):
        token = store.work_folder("token")
        try:
            yield str(token)
        finally:
            token.rmdir()


@ray.remote(num_cpus=0)
def _report(packages: list[str], token: str) -> NodeReport:
    return platform.node(), cpu_model(), local_gpus(), toolchain(packages), _unseen(token)


def _unseen(token: str) -> str:
    """Why this node does not see the store; empty if it does."""
    if not is_url(token):
        return "" if Path(token).exists() else "it needs a shared file system"
    try:
        open_objects(token).require_reachable()
    except InputError as error:
        return error.message
    return ""


def _request(node: str, packages: list[str], token: str) -> Any:
    strategy = NodeAffinitySchedulingStrategy(node, soft=False)
    return _report.options(scheduling_strategy=strategy).remote(packages, token)


def _node(
    found: Mapping[str, Any],
    host: str,
    device: str,
    its_gpus: tuple[Gpu, ...],
    versions: tuple[tuple[str, str], ...],
    no_store: str,
) -> Node:
    resources = found["Resources"]
    prefix = "accelerator_type:"
    kinds = tuple(name.removeprefix(prefix) for name in resources if name.startswith(prefix))
    cpus, gpu_count = resources.get("CPU", 0), resources.get("GPU", 0)
    machine = Machine(host, device, dict(versions), its_gpus, kinds, gpu_count, cpus, no_store)
    return Node(found["NodeID"], machine)
