"""What tests share: the project's folder, real data where it is there, one run of the demo."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("FARM_SHARED", PROJECT.parent / "shared"))

MATRIX = """\
name: small
models:
  onestage: {{config: {demo}/onestage.py, checkpoint: {demo}/onestage.pth}}
opsets: [17]
shapes:
  fixed: {{opt: 160x160}}
runtimes: [onnxruntime]
dataset: {{type: shapes, count: 6, seed: 7, size: 160}}
measure: {{seconds: 0.1, warmup_seconds: 0, min_samples: 10}}
verify: {{images: 4}}
"""

Farm = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real COCO images and a real checkpoint (FARM_SHARED, or `shared` beside the project)."""
    if not (SHARED / "coco-mini").is_dir():
        pytest.skip(f"no real images here: {SHARED} (set FARM_SHARED to try with them)")
    return SHARED


def run_farm(
    *words: object, cwd: Path = PROJECT, env: dict[str, str] | None = None, timeout: float = 900
) -> subprocess.CompletedProcess[str]:
    """`farm WORDS` as a user runs it: a process of its own."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("FARM_", "MLFLOW_", "RAY_"))}
    return subprocess.run(
        [sys.executable, "-m", "farm", *map(str, words)],
        cwd=cwd,
        env={**clean, **(env or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@pytest.fixture(scope="session")
def farm() -> Farm:
    return run_farm


@pytest.fixture
def small_matrix(tmp_path: Path) -> Path:
    """A matrix of one cell on a few drawn images."""
    path = tmp_path / "small.yaml"
    path.write_text(MATRIX.format(demo=PROJECT / "matrices" / "demo"))
    return path


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of the whole of `matrices/demo.yaml`, run once by Ray."""
    results = tmp_path_factory.mktemp("demo") / "results"
    done = run_farm("run", "matrices/demo.yaml", "--results", results)
    assert done.returncode == 0, done.stdout + done.stderr
    (results / "stdout.txt").write_text(done.stdout)
    (results / "stderr.txt").write_text(done.stderr)
    return results
