"""What lies in an engine's folder: the plan, and for which GPU and version it was made."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from farm.errors import StepFailed, TransientFailure
from farm.runtimes.trt.cuda import Gpu

PLAN, FACTS = "engine.plan", "engine.json"


@dataclass(frozen=True)
class EngineFacts:
    """Where an engine runs. gpu and driver are None for one built with no GPU there."""

    library: str
    version: str
    compute_capability: str
    gpu: str | None
    driver: str | None
    precision: str
    version_compatible: bool = False
    hardware_compatible: bool = False

    def refuses(self, version: str, gpu: Gpu) -> str | None:
        """Why the engine does not run with this version on this GPU."""
        if version != self.version and not self.version_compatible:
            return f"it was built by {self.library} {self.version}, and here is {version}"
        here = gpu.compute_capability
        if self.hardware_compatible:
            return None
        if here != self.compute_capability:
            return (
                f"it was built for compute capability {self.compute_capability}, {gpu} has {here}"
            )
        if self.gpu and gpu.name != self.gpu:
            return f"it was built for {self.gpu}, and here is {gpu}"
        if self.driver and gpu.branch != self.driver:
            return f"it was built under driver {self.driver}, and here is {gpu}"
        return None


def write(folder: Path, plan: memoryview, facts: EngineFacts) -> None:
    (folder / PLAN).write_bytes(plan)
    (folder / FACTS).write_text(json.dumps(asdict(facts), indent=1) + "\n")


def read(folder: Path) -> EngineFacts:
    path = folder / FACTS
    try:
        return EngineFacts(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise StepFailed(f"no engine of this adapter: {path}: {error}") from None


def require_fit(folder: Path, facts: EngineFacts, version: str, gpu: Gpu) -> None:
    """Raises TransientFailure: another machine may have what this one has not."""
    if reason := facts.refuses(version, gpu):
        raise TransientFailure(f"the engine {folder / PLAN} cannot run here: {reason}")
