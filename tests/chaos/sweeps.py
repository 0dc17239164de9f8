"""The sweep of the harness: its matrix, its processes, and its rows of the leaderboard."""

from __future__ import annotations

import base64
import hashlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rows import is_measured

from farm.results import leaderboard

PROJECT = Path(__file__).resolve().parents[2]

NAME, OTHER = "chaos", "beside"
"""The sweep, and one of the same cells that another user runs at the same time."""

_MODEL = """\
  {name}:
    source: onnx
    file: peaks.onnx
    classes: [circle, square, triangle, star]
    preprocess: {{mean: [{mean}, 116.28, 103.53], std: [58.395, 57.12, 57.375], pad: 32}}
    runtimes: {runtimes}
"""
_MATRIX = """\
name: {name}
models:
{models}
shapes:
  small: {{opt: 96x96}}
  large: {{opt: 128x128}}
runtimes: [onnxruntime]
dataset: {{type: synthetic, count: 6, seed: 7, size: 160}}
measure: {{seconds: 0.05, warmup_seconds: 0, min_samples: 10}}
compare: {{seconds: 0.05}}
verify: {{images: 2}}
limits: {{build: 15s, verify: 15s, evaluate: 15s, measure: 15s, compare: 30s, memory: 1GiB}}
"""
_MODELS = {"dark": (123.675, "[onnxruntime, faulty]"), "light": (100.0, "[faulty, 'null']")}
"""The cells of `null` fail: it finds nothing. So there are reasons to compare, too."""

Rows = Mapping[str, Mapping[str, Any]]
"""By cell: what must be the same in every run."""


def install(site: Path) -> None:
    """Install the faulty runtime, as pip does."""
    info = site / "faulty-1.0.dist-info"
    info.mkdir(parents=True)
    code = Path(__file__).with_name("faulty.py").read_bytes()
    (site / "faulty.py").write_bytes(code)
    digest = base64.urlsafe_b64encode(hashlib.sha256(code).digest()).rstrip(b"=").decode()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1.0\n")
    (info / "RECORD").write_text(f"faulty.py,sha256={digest},{len(code)}\n")
    (info / "entry_points.txt").write_text("[farm.runtimes]\nfaulty = faulty:RUNTIME\n")


def write_matrices(folder: Path) -> None:
    """Write the matrices of both sweeps, and their model."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(PROJECT / "matrices" / "sources" / "peaks.onnx", folder)
    models = "".join(
        _MODEL.format(name=name, mean=mean, runtimes=runtimes)
        for name, (mean, runtimes) in _MODELS.items()
    )
    for name in (NAME, OTHER):
        (folder / f"{name}.yaml").write_text(_MATRIX.format(name=name, models=models))


def rows(results: Path, sweep: str = NAME) -> Rows:
    """Return the sweep's rows in a folder, without timings."""
    return rows_of(leaderboard.of_sweep(results, sweep))


def rows_of(found: Iterable[Mapping[str, Any]]) -> Rows:
    """Return rows of a leaderboard without timings."""
    return {
        row["cell"]: {
            name: value for name, value in row.items() if name != "sweep" and not is_measured(name)
        }
        for row in found
    }


@dataclass(frozen=True)
class Driver:
    """A `farm run`. said: the file with its stderr."""

    process: subprocess.Popen[bytes]
    sweep: str
    said: Path

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self.process.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    @property
    def text(self) -> str:
        """What it has said."""
        return self.said.read_text(errors="replace")


def begin(
    folder: Path, results: str, address: str | None, variables: Mapping[str, str], *words: str,
    sweep: str = NAME,
) -> Driver:  # fmt: skip
    """Begin to run the sweep. folder: that of the matrices. address: None for a Ray of its own."""
    command = [sys.executable, "-m", "farm", "run", str(folder / f"{sweep}.yaml"), "-v"]
    command += ["--results", results, *words, *(["--address", address] if address else [])]
    number = len(list(folder.glob("run-*.err"))) + 1
    said = folder / f"run-{number}.err"
    with said.open("wb") as errors, said.with_suffix(".out").open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=dict(variables), stdin=subprocess.DEVNULL, stdout=output,
            stderr=errors, start_new_session=True,
        )  # fmt: skip
    return Driver(process, sweep, said)
