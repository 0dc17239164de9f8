"""The files of an engine's folder, and the timing cache of builds."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.errors import StepFailed, TransientFailure
from farm.files import atomic

if TYPE_CHECKING:
    from farm.runtimes.tensorrt.cuda import Gpu

log = logging.getLogger(__name__)

PLAN, FACTS = "engine.plan", "engine.json"


@dataclass(frozen=True)
class EngineFacts:
    """Where an engine can run. gpu, driver and cuda are None for one built with no GPU there.

    cuda: the version that the driver supports, `13.0`; None in engines of earlier versions, too.
    """

    library: str
    version: str
    compute_capability: str
    gpu: str | None
    driver: str | None
    precision: str
    version_compatible: bool = False
    hardware_compatible: bool = False
    cuda: str | None = None

    def refuses(self, version: str, gpu: Gpu) -> str | None:
        """Return why the engine does not run with this version on this GPU; None where it does."""
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
    """Write the engine and its facts."""
    (folder / PLAN).write_bytes(plan)
    (folder / FACTS).write_text(json.dumps(asdict(facts), indent=1) + "\n")


def read(folder: Path) -> EngineFacts:
    """Read the facts of an engine.

    Raises:
        StepFailed: the folder holds no engine of this adapter.
    """
    path = folder / FACTS
    try:
        return EngineFacts(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise StepFailed(f"no engine of this adapter: {path}: {error}") from None


def require_fit(folder: Path, facts: EngineFacts, version: str, gpu: Gpu) -> None:
    """Check that the engine runs here.

    Raises:
        TransientFailure: it does not; another machine may have what it needs.
    """
    if reason := facts.refuses(version, gpu):
        raise TransientFailure(f"the engine {folder / PLAN} cannot run here: {reason}")


def timing_file(location: str, library: str, version: str, gpu: Gpu) -> Path:
    """Return `location`, or, of a folder, its file for this GPU model and version."""
    path = Path(location)
    if not location.endswith("/") and not path.is_dir():
        return path
    name = f"{library}-{version}-{gpu.name}-sm{gpu.compute_capability}-{gpu.branch}.cache"
    return path / name.replace(" ", "_").replace("/", "_")


def load_timings(config: Any, path: Path) -> None:
    """Set the timing cache of a build; a cache of another GPU or version is ignored."""
    cache = config.create_timing_cache(_read_timings(path))
    if cache is None or not config.set_timing_cache(cache, False):
        log.info(
            f"timing cache {path} is of another GPU or version: the build starts with an empty one"
        )
        config.set_timing_cache(config.create_timing_cache(b""), False)


def blames_timings(errors: list[str]) -> bool:
    """Whether a failed build names the cache. Seen with 8.6: Myelin's part of a graph fails with
    `The timing cache will not be used`, once other models' builds have filled it."""
    return any("timing cache" in text.lower() for text in errors)


def save_timings(config: Any, path: Path) -> None:
    """Save the timings of a build and those that other builds saved meanwhile, by one rename."""
    cache = config.get_timing_cache()
    others = config.create_timing_cache(_read_timings(path))
    if others is not None and others.combine(cache, False):
        cache = others
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write(path, bytes(memoryview(cache.serialize())))


def _read_timings(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""
