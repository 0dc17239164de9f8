"""What a node of a cluster reports of itself: processor, GPUs, versions, access to the store."""

from __future__ import annotations

import math
import platform
import secrets
import time
from collections.abc import Iterator, Mapping
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
from farm.plan.machines.placement import Machine, cpu_model
from farm.plan.machines.placement import gpus as local_gpus
from farm.specs import Gpu
from farm.store.objects import is_url
from farm.store.opening import open_objects

if TYPE_CHECKING:
    from farm.store import Store

_BUSY_S = 20.0
"""How long an object store may refuse a node, in seconds, before the node is left out for it."""

NodeReport = tuple[str, str, tuple[Gpu, ...], tuple[tuple[str, str], ...], str]
"""A node's name, processor, GPUs, package versions, and why it does not see the store, if so."""


@dataclass(frozen=True)
class Node:
    """A node of the cluster: a machine, by Ray's name for it."""

    id: str
    machine: Machine


@contextmanager
def visible_token(store: Store) -> Iterator[str]:
    """Yield what a node sees if it sees the store: a file in it, or an object store's address.

    The file is that of a lease: the next sweep removes it if this one is killed.
    """
    if is_url(store.address):
        yield store.address
        return
    path = path_of(store, f"token{secrets.token_hex(8)}")
    with Lease(path, EXPIRES_S):
        yield str(path)


@ray.remote(num_cpus=0)
def _report(packages: list[str], token: str) -> NodeReport:
    return platform.node(), cpu_model(), local_gpus(), toolchain(packages), _unseen(token)


def _unseen(token: str) -> str:
    """Why this node does not see the store; empty if it does. A service may be busy for a while."""
    if not is_url(token):
        return "" if Path(token).exists() else "it needs a shared file system"
    until = time.monotonic() + _BUSY_S
    while True:
        try:
            open_objects(token).require_reachable()
        except InputError as error:
            if time.monotonic() >= until:
                return error.message
            time.sleep(1)
        else:
            return ""


def request_report(node: str, packages: list[str], token: str) -> Any:
    """Let a node report, as a Ray task. token: of `visible_token`."""
    strategy = NodeAffinitySchedulingStrategy(node, soft=False)
    return _report.options(scheduling_strategy=strategy, max_retries=0).remote(packages, token)


def node_of(
    found: Mapping[str, Any],
    host: str,
    device: str,
    its_gpus: tuple[Gpu, ...],
    versions: tuple[tuple[str, str], ...],
    no_store: str,
) -> Node:
    """Return the node of which Ray says `found`, and its report the rest."""
    resources = found["Resources"]
    prefix = "accelerator_type:"
    kinds = tuple(name.removeprefix(prefix) for name in resources if name.startswith(prefix))
    machine = Machine(
        host, device, dict(versions), its_gpus, kinds,
        gpu_count=resources.get("GPU", 0), cpus=resources.get("CPU", 0),
        memory_bytes=resources.get("memory", math.inf), no_store=no_store,
    )  # fmt: skip
    return Node(found["NodeID"], machine)
