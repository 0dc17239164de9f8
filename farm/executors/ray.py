"""Steps as Ray tasks, on the nodes that fit them."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import farm
from farm.errors import InputError
from farm.executors import Outcome, perform
from farm.plan import Step
from farm.store import Store

# Ray keeps what it cannot place in its own queue; a few more than fit keep every core busy.
_QUEUE = 2

_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # set by Ray where a job's entrypoint runs


class RayExecutor:
    """Takes steps up to the cluster's cores. An exclusive step gets one node's cores all."""

    def __init__(self, store: Store, address: str | None = None) -> None:
        self._store = store
        self._address = address or os.environ.get("RAY_ADDRESS")
        self._own = not ray.is_initialized()
        if self._own:
            # Ray puts a handler of its own in place of the sweep's, which ends it in order.
            handler = signal.getsignal(signal.SIGTERM)
            _connect(self._address)
            signal.signal(signal.SIGTERM, handler)
        self._tasks: dict[Any, Step] = {}
        self._nodes = [node for node in ray.nodes() if node["Alive"]]

    def admit(self, steps: Iterable[Step]) -> None:
        for step in steps:
            if not self._fitting(step):
                kinds = sorted({_kind(node["Resources"]) for node in self._nodes})
                raise InputError(
                    f"{step.label} needs a node with accelerator {step.needs.accelerator!r}; "
                    f"this cluster has {', '.join(kinds)}",
                    f"Ray cluster {self._address or 'local'}",
                )

    def _fitting(self, step: Step) -> list[dict[str, Any]]:
        return [node for node in self._nodes if _fits(node["Resources"], step)]

    def take(self, step: Step, running: Iterable[Step]) -> bool:
        others = [one for one in running if one.needs.accelerator == step.needs.accelerator]
        fitting = self._fitting(step)
        if step.needs.exclusive:
            # Asked for only when nothing else is under way there: all cores of a node then
            # come free at once, and no core waits idle for the last of them.
            used = [one for one in others if not one.needs.exclusive]
            free = len(fitting) - len([one for one in others if one.needs.exclusive])
            if used or free <= 0:
                return False
            node = fitting[free - 1]
        else:
            if any(one.needs.exclusive for one in others) and len(fitting) == 1:
                return False
            cores = sum(node["Resources"].get("CPU", 0) for node in fitting)
            if len(others) >= cores + _QUEUE:
                return False
            node = None
        self._tasks[_submit(step, str(self._store.root), node)] = step
        return True

    def wait(self) -> Outcome:
        (done, *_), _ = ray.wait(list(self._tasks), num_returns=1)
        step = self._tasks.pop(done)
        try:
            outcome: Outcome = ray.get(done)
        except ray.exceptions.RayError as error:
            # The worker or its node died, or was killed for memory: `perform` itself never raises.
            reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
            return Outcome(step.key, "transient", reason)
        return outcome

    def stop(self) -> None:
        """Cancel what is under way; end the Ray that this executor began."""
        for task in self._tasks:
            ray.cancel(task, force=True)
        if self._own:
            ray.shutdown()


def _connect(address: str | None) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address:
        # The nodes get the farm's own code from here; inside a job they have it already.
        package = str(Path(farm.__file__).parent)
        shipped = {} if _JOB in os.environ else {"py_modules": [package]}
        ray.init(address=address, runtime_env=shipped, **quiet)
        return
    ray.init(
        address="local",
        num_cpus=len(os.sched_getaffinity(0)),
        include_dashboard=False,
        object_store_memory=100 << 20,  # nothing large travels: artifacts lie in the store
        _node_ip_address="127.0.0.1",
        **quiet,
    )


def _fits(resources: Mapping[str, float], step: Step) -> bool:
    if step.needs.accelerator is None:
        return resources.get("CPU", 0) >= step.needs.cpus
    return f"accelerator_type:{step.needs.accelerator}" in resources


def _kind(resources: Mapping[str, float]) -> str:
    gpus = [n.removeprefix("accelerator_type:") for n in resources if n.startswith("accelerator_")]
    return gpus[0] if gpus else "CPU nodes"


def _submit(step: Step, root: str, node: Mapping[str, Any] | None) -> Any:
    # Tries are counted by the farm, which knows which failures pass: none of Ray's own.
    options: dict[str, Any] = {"num_cpus": step.needs.cpus, "max_retries": 0}
    if step.needs.accelerator:
        options |= {"num_gpus": 1, "accelerator_type": step.needs.accelerator}
    if node is not None:
        options["num_cpus"] = node["Resources"]["CPU"]
        options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        # A process of its own, ended afterwards: no other engine's threads or memory.
        options["max_calls"] = 1
        options["runtime_env"] = {"env_vars": {"FARM_EXCLUSIVE": "1"}}
    return ray.remote(**options)(perform).remote(step, root)
