"""What steps are expected to take, from those of the same stage, runtime and model before them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from farm.engine.status import StepStatus
from farm.errors import InputError
from farm.failures import FailureKind
from farm.files import atomic, jsonfile

if TYPE_CHECKING:
    from pathlib import Path

    from farm.engine.status import Outcome
    from farm.plan.steps import Step

FOLDER, FILE = "estimates", "estimates/steps.json"
"""In the folder of results: what the steps of earlier sweeps have taken."""

_GIB = 1 << 30

_SECONDS: Mapping[str, float] = {
    "check": 5.0,
    "prepare": 5.0,
    "reference": 20.0,
    "export": 20.0,
    "convert": 60.0,
    "build": 20.0,
    "verify": 5.0,
    "evaluate": 60.0,
    "measure": 3.0,
    "compare": 30.0,
}
"""Of a step of which nothing is known, by stage; 60 s of another package's stage."""

_ENGINE_OF_A_GPU_S = 300.0
"""Of a `build` on an accelerator of which nothing is known: TensorRT times every kernel."""

_MEMORY = 2 * _GIB
"""Of a step of which nothing is known: PyTorch with a detector, or an engine with its inputs."""

_MARGIN = 1.25
"""What is asked for, over the largest peak before."""

_GPU_MARGIN = 1.5
"""The same for a GPU's memory: shapes and precisions of one model differ, and what one step lacks
there another step loses, too."""

_DECAY = 0.95
"""What remains of the largest peak after another step: the code may need less by now."""

_MOST_S, _MOST_BYTES = 1e9, 1 << 50
"""More than that no estimate of a file says."""

_LAST = 10
"""How many steps the mean is of, about: a machine or a package may have become faster."""


@dataclass(frozen=True)
class Kind:
    """What steps are alike in that take about equally long. runtime, model: None where a step is of
    none, or where it is not known."""

    stage: str
    runtime: str | None
    model: str | None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the kind itself and of that of all models, the closest first."""
        kind = f"{self.stage}/{self.runtime}" if self.runtime else self.stage
        return (f"{kind}/{self.model}", kind) if self.model else (kind,)

    @property
    def any_runtime(self) -> str | None:
        """The name of the same kind whatever its runtime; None where it has no runtime or model."""
        return f"{self.stage}/*/{self.model}" if self.runtime and self.model else None


@dataclass(frozen=True)
class Estimate:
    """The mean duration of steps in seconds, and their largest peak of host memory in bytes.

    count: of how many steps. gpu_bytes: their largest peak of GPU memory; 0 where it is not known.
    """

    seconds: float
    memory_bytes: int
    count: int = 1
    gpu_bytes: int = 0

    def with_another(self, seconds: float, memory_bytes: int, gpu_bytes: int) -> Estimate:
        """Return the estimate with one more step in it."""
        count = min(self.count + 1, _LAST)
        mean = self.seconds + (seconds - self.seconds) / count
        host = max(int(_DECAY * self.memory_bytes), memory_bytes)
        # Of a step whose peak was not found nothing follows.
        gpu = max(int(_DECAY * self.gpu_bytes), gpu_bytes) if gpu_bytes else self.gpu_bytes
        return Estimate(mean, host, count, gpu)


class Estimates:
    """What steps have taken, by stage, runtime and model, and what others are expected to take.

    revision: another number when it is worth while to compute anew what was computed from them:
    after the first step of a stage and runtime, and when twice as many steps have been noted. So
    what that costs a step does not grow with the number of steps.

    Args:
        known: What earlier sweeps have found, as `read_estimates` returns it.
    """

    def __init__(self, known: Mapping[str, Estimate] | None = None) -> None:
        self.known = dict(known or {})
        self.revision, self._noted = 0, 0
        self._own = set[str]()
        self._models: dict[str, str] = {}
        self._lacked: dict[str, int] = {}
        self._lacked_on_gpu = set[str]()

    def add_plan(self, steps: Mapping[str, Step]) -> None:
        """Learn of which model each step is. Parents stand before children."""
        for key, step in steps.items():
            parents = (self._models[one] for one in step.parents if one in self._models)
            if model := _model_of(step) or next(parents, None):
                self._models[key] = model

    def learn(self, step: Step, outcome: Outcome) -> None:
        """Note what a step has taken that has ended, or that memory ran out meanwhile."""
        if outcome.status is StepStatus.TRANSIENT and outcome.kind is FailureKind.OOM:
            self.note_out_of_memory(step)
        elif outcome.status is StepStatus.DONE and outcome.seconds:  # else it was done before
            self.note(step, outcome.seconds, outcome.memory_bytes, outcome.gpu_bytes)

    def note(self, step: Step, seconds: float, memory_bytes: int, gpu_bytes: int = 0) -> None:
        """Note what a step has taken. gpu_bytes: 0 where it is not known."""
        self._noted += 1
        if not self.knows(step) or self._noted.bit_count() == 1:  # a power of two
            self.revision += 1
        kind = self.kind(step)
        for name in (*kind.names, kind.any_runtime):
            if name is None:
                continue
            known = self.known.get(name)
            one = known.with_another(seconds, memory_bytes, gpu_bytes) if known else None
            self.known[name] = one or Estimate(seconds, memory_bytes, gpu_bytes=gpu_bytes)
            self._own.add(name)

    def note_out_of_memory(self, step: Step) -> None:
        """Note that memory ran out. In this run, the next step of its kind asks for twice as much
        of the host's; on a GPU, for one of its own, whose memory it may have been."""
        name = self.kind(step).names[0]
        if step.needs.accelerator:
            self._lacked_on_gpu.add(name)
        else:
            self._lacked[name] = 2 * self.memory_bytes(step)

    def over(self, known: Mapping[str, Estimate]) -> dict[str, Estimate]:
        """Return others' estimates with those that were changed here in their place."""
        return {**known, **{kind: self.known[kind] for kind in self._own}}

    def knows(self, step: Step) -> bool:
        """Return whether a step of this stage and runtime has been noted."""
        return self.kind(step).names[-1] in self.known

    def seconds(self, step: Step) -> float:
        """Return how many seconds a step is expected to run."""
        if found := self._found(step):
            return found.seconds
        return default_seconds(step)

    def memory_bytes(self, step: Step) -> int:
        """Return how much memory a step should find free."""
        found = self._found(step)
        known = int(_MARGIN * found.memory_bytes) if found and found.memory_bytes else _MEMORY
        return max(known, self._lacked.get(self.kind(step).names[0], 0))

    def gpu_bytes(self, step: Step) -> int:
        """Return how much memory of a GPU a step should have; 0 where that is not known: no step of
        its stage, runtime and model has been seen, or one of them has run out of memory."""
        name = self.kind(step).names[0]
        if name in self._lacked_on_gpu or name not in self.known:
            return 0
        return int(_GPU_MARGIN * self.known[name].gpu_bytes)

    def kind(self, step: Step) -> Kind:
        """Return the kind of a step: its stage, its runtime, and its model by `add_plan`."""
        inputs = step.inputs
        options = getattr(inputs, "options", None) or getattr(
            getattr(inputs, "engine", None), "options", None
        )
        return Kind(step.stage, options.runtime if options else None, self._models.get(step.key))

    def of(self, *names: str | None) -> float | None:
        """Return the mean duration in seconds of the first of these kinds that is known."""
        found = (self.known[name] for name in names if name in self.known)
        return next((one.seconds for one in found), None)

    def _found(self, step: Step) -> Estimate | None:
        names = self.kind(step).names
        return next((self.known[name] for name in names if name in self.known), None)


def _model_of(step: Step) -> str | None:
    """The model that a step names. An engine without a file is the model itself, and the step's
    only parents are images, which other models may have, too."""
    named = getattr(step.inputs, "model", None) or getattr(
        getattr(step.inputs, "engine", None), "model", None
    )
    return getattr(named, "name", None)


def default_seconds(step: Step) -> float:
    """Return how long a step may run of which nothing is known, in seconds."""
    if step.stage == "build" and step.needs.accelerator:
        return _ENGINE_OF_A_GPU_S
    return _SECONDS.get(step.stage, _SECONDS["evaluate"])


def read_estimates(path: Path) -> dict[str, Estimate]:
    """Return the estimates in a file, without those that cannot be true; none where it is not there
    or is not one: they only decide what is run first, and are found anew."""
    try:
        found = jsonfile.decode(dict[str, Estimate], jsonfile.read(path))
    except (OSError, ValueError, InputError):
        return {}
    return {kind: one for kind, one in found.items() if _may_be_true(one)}


def _may_be_true(one: Estimate) -> bool:
    return (
        0 <= one.seconds < _MOST_S
        and 0 <= one.memory_bytes < _MOST_BYTES
        and 0 <= one.gpu_bytes < _MOST_BYTES
        and 1 <= one.count <= _LAST
    )


def write_estimates(path: Path, known: Mapping[str, Estimate]) -> None:
    """Write estimates to a file. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({kind: asdict(known[kind]) for kind in sorted(known)}, indent=1)
    atomic.write(path, text, durable=False)
