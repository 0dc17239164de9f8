"""Build an engine of an ONNX file and run it once: in this process, or in an environment."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from farm import environments
from farm.catalog import RUNTIMES
from farm.errors import FarmError, StepFailed
from farm.failures import in_one_line

if TYPE_CHECKING:
    from farm.specs import EngineOptions, Environment

Outputs = Mapping[str, npt.NDArray[Any]]

_SECONDS = 1800
"""How long an engine may take to be built and run in an environment."""

_RUN = "from farm.bisect.engines import main; main(sys.argv[1])"


class Runs(Protocol):
    """How an engine is built of an ONNX file, and run."""

    def run(self, file: Path, images: npt.NDArray[np.float32]) -> Outputs:
        """Build an engine of the file and return its outputs for images [N, 3, H, W].

        Raises:
            StepFailed: the runtime cannot build or run it.
            EnvironmentFailed: its environment cannot be made.
        """


@dataclass(frozen=True)
class Here:
    """Engines of a runtime in this process, built and opened as those of the cell are."""

    options: EngineOptions
    threads: int

    def run(self, file: Path, images: npt.NDArray[np.float32]) -> Outputs:
        """Build an engine and run it; see `Runs`."""
        runtime = RUNTIMES[self.options.runtime]
        try:
            with tempfile.TemporaryDirectory(prefix="farm-bisect-") as folder:
                runtime.build(file, Path(folder), self.options)
                session = runtime.open_engine(Path(folder), self.options, self.threads)
                try:
                    return session.run(images)
                finally:
                    session.close()
        except (FarmError, MemoryError, OSError):
            raise
        except Exception as error:  # each runtime raises kinds of its own
            reason = f"{self.options.runtime} cannot run it: {in_one_line(error)}"
            raise StepFailed(reason) from error


@dataclass(frozen=True)
class Elsewhere:
    """The same in a process of an environment of its own."""

    environment: Environment
    here: Here

    def run(self, file: Path, images: npt.NDArray[np.float32]) -> Outputs:
        """Build an engine and run it; see `Runs`."""
        with tempfile.TemporaryDirectory(prefix="farm-bisect-") as folder:
            Path(folder, "work.pickle").write_bytes(pickle.dumps((self.here, file)))
            np.save(Path(folder, "images.npy"), images)
            command = [*environments.command(self.environment, _RUN), folder]
            try:
                done = subprocess.run(
                    command, capture_output=True, text=True, errors="replace", check=False,
                    timeout=_SECONDS, env=environments.variables(os.environ),
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                reason = f"did not end within {_SECONDS} seconds"
                raise StepFailed(f"{self.environment.name} {reason}") from None
            if done.returncode:
                raise StepFailed(_why(done))
            return _read(Path(folder))


def main(folder: str) -> None:
    """Run the engine that `work.pickle` in a folder describes, and leave its outputs there."""
    here, file = pickle.loads(Path(folder, "work.pickle").read_bytes())
    try:
        found = here.run(file, np.load(Path(folder, "images.npy")))
    except FarmError as error:
        sys.exit(str(error))
    np.savez(Path(folder, "outputs.npz"), *found.values())
    Path(folder, "names.json").write_text(json.dumps(list(found)))


def _read(folder: Path) -> Outputs:
    names = json.loads((folder / "names.json").read_text())
    with np.load(folder / "outputs.npz") as stored:
        return {name: stored[f"arr_{i}"] for i, name in enumerate(names)}


def _why(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode < 0:
        return f"the runtime ended its process ({signal.strsignal(-done.returncode)})"
    return done.stderr.strip().rpartition("\n")[2] or f"ended with {done.returncode}"
