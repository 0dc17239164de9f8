"""Steps that sleep for as long as real ones would work, and stages of that kind on every node.

Unpickling the inputs of such a step imports this module, which puts its `run` in place of all the
farm's own stages in that process. So steps keep the stages' names, by which a scheduler may judge
them. A step on a GPU is given those that nvidia-smi lists, since there is no driver to ask.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from farm.plan import Needs, Step
from farm.plan.machines import placement
from farm.runtimes.tensorrt import cuda
from farm.specs import Target
from farm.stages import Context

NODE = "FARM_BENCHMARK_NODE"
"""The environment variable with the name of a simulated node."""

STAGES = ("prepare", "reference", "export", "convert", "build", "verify", "evaluate", "measure")

for _stage in STAGES:
    sys.modules[f"farm.stages.{_stage}"] = sys.modules[__name__]
cuda.gpus = placement.gpus


@dataclass(frozen=True)
class Model:
    name: str


@dataclass(frozen=True)
class Options:
    runtime: str


@dataclass(frozen=True)
class Sleep:
    """What such a step gets. model, options: as those of real steps, by which a scheduler may know
    them again. target: of an engine's steps, by which nodes are chosen."""

    seconds: float
    model: Model
    options: Options | None = None
    target: Target | None = None


def run(inputs: Sleep, context: Context) -> Mapping[str, Any]:
    """Sleep. Return the node's name, when the step began, in seconds of the system's clock, and the
    figures without which a record is torn."""
    began, seconds = time.time(), inputs.seconds
    time.sleep(seconds)
    figures = {"kept_fp32": [], "latency_p50_ms": seconds * 1e3, "throughput_per_s": 1 / seconds}
    return {**figures, "node": os.environ[NODE], "began": began}


def step(
    stage: str,
    label: str,
    seconds: float,
    parents: tuple[Step, ...] = (),
    target: Target | None = None,
) -> Step:
    """Return a step that sleeps, with what the farm's planner says that such a stage needs.

    label: MODEL or MODEL.RUNTIME.TARGET.
    """
    key = hashlib.sha256(f"{stage} {label}".encode()).hexdigest()
    needs = Needs(exclusive=stage == "measure", accelerator=target.accelerator if target else None)
    model, *engine = label.split(".")
    options = Options(engine[0]) if target else None
    inputs: Any = Sleep(seconds, Model(model), options, target)
    keys = tuple(parent.key for parent in parents)
    return Step(stage, key, label, inputs, (), keys, needs, "")
