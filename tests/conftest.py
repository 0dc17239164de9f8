"""What tests share: the project's folder, real data where it is there, one run of the demo."""

from __future__ import annotations

import ast
import atexit
import contextlib
import errno
import fcntl
import functools
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn

import pytest
import wheels
from object_stores import asked, node, objects, proxy, s3, s3_server, s3_without_conditions

from farm.environments import state
from farm.terminal import logs

__all__ = ["asked", "node", "objects", "proxy", "s3", "s3_server", "s3_without_conditions"]

PROJECT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("FARM_SHARED", PROJECT.parent / "shared"))

# Tests that run beside each other do not wait for each other's measurements.
if "FARM_LOCKS" not in os.environ or "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["FARM_LOCKS"] = tempfile.mkdtemp(prefix="locks-")
    atexit.register(shutil.rmtree, os.environ["FARM_LOCKS"], ignore_errors=True)

MATRIX = """\
name: small
models:
  onestage: {{config: {demo}/onestage.py, checkpoint: {demo}/onestage.pth}}
opsets: [17]
shapes:
  fixed: {{opt: 160x160}}
runtimes: [onnxruntime]
dataset: {{type: synthetic, count: 6, seed: 7, size: 160}}
measure: {{seconds: 0.1, warmup_seconds: 0, min_samples: 10}}
compare: {{seconds: 0.1}}
verify: {{images: 4}}
"""

logs.configure()  # as a command does

HEAVY = {
    one for one in ("mmcv", "mmdet", "openvino", "torch") if importlib.util.find_spec(one) is None
}
"""What the tests without them (`make pythons`) leave out, with the test files that import it."""


CI = "FARM_CI" in os.environ
"""Whether this is `.ci/run`, which has everything that can be had without a GPU or real data."""

_OF_CI = (
    "coverage",
    "jsonschema",
    "mlflow",
    "onnxruntime",
    "playwright",
    "ray",
    "scipy",
    "tensorrt_rtx_bindings",
)
"""Packages without which tests skip themselves, and which `make setup` installs."""


def pytest_configure() -> None:
    """Let no test of a package be skipped in CI because the package has not been installed."""
    lost = [one for one in (*HEAVY, *_OF_CI) if importlib.util.find_spec(one) is None]
    if CI and lost:
        raise pytest.UsageError(f"CI lacks {', '.join(sorted(lost))}; run `make setup`")


def skip_but_in_ci(reason: str) -> NoReturn:
    """Skip a test for what this machine lacks and CI has: there its lack is a failure."""
    if CI:
        pytest.fail(reason)
    pytest.skip(reason)


def wait_for(holds: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until something holds, and fail where it does not in so many seconds."""
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, f"it did not hold within {seconds:g} s"
        time.sleep(0.02)


needs_packages = pytest.mark.skipif(
    bool(HEAVY), reason="its matrix needs torch, mmdet and OpenVINO"
)
needs_mmdet = pytest.mark.skipif("mmdet" in HEAVY, reason="reads the configs that mmdet ships")


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    return True if HEAVY and collection_path.suffix == ".py" and _imports(collection_path) else None


def _imports(path: Path) -> bool:
    """Whether a test file imports any of it, at once or by a module of the farm's that does."""
    names = []
    for one in ast.parse(path.read_text()).body:
        if isinstance(one, ast.Import):
            names += [alias.name for alias in one.names]
        elif isinstance(one, ast.ImportFrom):
            names += [f"{one.module}.{alias.name}" for alias in one.names]
    ours = ("farm.sources.mmdet", "farm.single.mmdet")
    return any(name.partition(".")[0] in HEAVY or name.startswith(ours) for name in names)


LONGEST = (
    "e2e/test_readme.py", "e2e/test_mlflow_pages.py", "e2e/test_sweep.py",
    "precision/test_precision.py", "chaos/test_chaos.py", "e2e/test_own_detector.py",
    "single/test_single_export.py", "models/test_trials.py", "offline/test_offline.py",
    "e2e/test_exits_sweep.py", "e2e/test_benchmarks.py", "e2e/test_interrupted.py",
    "engine/test_ray_cluster.py", "e2e/test_object_store.py", "e2e/test_releases.py",
    "bundle/test_alone.py", "bundle/test_command.py", "e2e/test_report.py", "e2e/test_tour.py",
    "datasets/test_config_data.py", "e2e/test_coco_mini.py", "e2e/test_deaths.py",
    "e2e/test_extensions.py", "e2e/test_demo.py",
)  # fmt: skip
"""The files of slow tests that take minutes, the longest first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files where there are several processes, so that all end together.

    `test_demo.py` comes late: it waits for the sweep that `test_readme.py` makes.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:
        order = {f"tests/{name}": number for number, name in enumerate(LONGEST)}
        items.sort(key=lambda item: order.get(item.location[0], len(order)))


Farm = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def common(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for all processes of this run of the tests (`-n 2`), where there are several."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


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
        env={**clean, "FARM_LOCKS": os.environ["FARM_LOCKS"], **(env or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def full_disk(*_: object) -> None:
    """In place of a function that writes."""
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture(scope="session")
def farm() -> Farm:
    return run_farm


H200 = PROJECT / "results" / "records" / "h200.tar.xz"


@pytest.fixture
def h200(tmp_path: Path) -> Path:
    """The records of an H200 as a folder, to change; of version 1, which has no digests."""
    with tarfile.open(H200) as file:
        file.extractall(tmp_path / "h200", filter="data")
    return tmp_path / "h200"


@pytest.fixture
def small_matrix(tmp_path: Path) -> Path:
    """A matrix of one cell on a few drawn images."""
    path = tmp_path / "small.yaml"
    path.write_text(MATRIX.format(demo=PROJECT / "matrices" / "demo"))
    return path


def made_once(folder: Path, make: Callable[[Path], object]) -> Path:
    """A folder of this run of the tests that its first process makes, while others wait."""
    done = folder.with_name(f"{folder.name}.done")
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            make(folder)
            done.touch()
    return folder


@pytest.fixture(scope="session")
def demo(common: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of all of `matrices/demo.yaml`, run once by Ray; each process has its copy."""

    def make(folder: Path) -> None:
        done = run_farm("run", "matrices/demo.yaml", "--results", folder)
        assert done.returncode == 0, done.stdout + done.stderr
        (folder / "stdout.txt").write_text(done.stdout)
        (folder / "stderr.txt").write_text(done.stderr)

    made = made_once(common / "demo", make)
    return Path(shutil.copytree(made, tmp_path_factory.mktemp("demo") / "results"))


SMALL_RUNTIMES = "runtimes=[onnxruntime, openvino, torch]"


@pytest.fixture(scope="session")
def small_made(common: Path) -> Path:
    """The results of the small matrix on SMALL_RUNTIMES, run inline once; nobody changes them."""

    def make(folder: Path) -> None:
        matrix = common / "small.yaml"
        matrix.write_text(MATRIX.format(demo=PROJECT / "matrices" / "demo"))
        words = (SMALL_RUNTIMES, "--executor", "inline", "--no-mlflow", "--results", folder)
        done = run_farm("run", matrix, *words)
        assert done.returncode == 0, done.stdout + done.stderr

    return made_once(common / "small", make)


@pytest.fixture
def small_results(small_made: Path, tmp_path: Path) -> Path:
    """A copy of the small matrix's results, for a test that continues from there."""
    return Path(shutil.copytree(small_made, tmp_path / "r"))


@dataclass(frozen=True)
class Done:
    """What a command came to, run in this process."""

    code: int
    out: str
    err: str


Tool = Callable[..., Done]


@pytest.fixture(scope="session")
def single_results(common: Path) -> Path:
    """Where the single-model tools keep their artifacts: one store for all of their tests."""
    return common / "single"


@functools.cache
def streams() -> tuple[IO[str], IO[str]]:
    """stdout and stderr by number, as in a process of its own: steps turn these to their logs.

    Never closed: libraries keep what they find when they are imported.
    """
    return open(1, "w", closefd=False), open(2, "w", closefd=False)


@pytest.fixture
def tool(
    single_results: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Tool:
    """`farm WORDS` in this process (mmdet is imported once), from an empty folder."""
    from farm.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FARM_RESULTS", str(single_results))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)

    def run(*words: object) -> Done:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["farm", *map(str, words)])
        out, err = streams()
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as end,
        ):
            main.main()
        out.flush()
        err.flush()
        return Done(int(end.value.code or 0), *capfd.readouterr())

    return run


@pytest.fixture(scope="session")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's database with the run of a sweep `t`; it takes seconds to make."""
    from rows import row

    from farm.results import tracking

    folder = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        tracking.log_sweep("t", [row("z", sweep="t")], {"z": tracking.Evidence()}, folder)
    return folder / "mlflow.db"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that uv installs from, and from nowhere else: it needs no network."""
    folder = tmp_path / "wheels"
    for version in ("1.0", "1.1", "2.0"):
        wheels.add(folder, "farmdemo", version)
    monkeypatch.setenv("UV_FIND_LINKS", str(folder))
    (tmp_path / "uv.toml").write_text("no-index = true\n")
    monkeypatch.setenv("UV_CONFIG_FILE", str(tmp_path / "uv.toml"))
    monkeypatch.setenv("FARM_ENVIRONMENTS", str(tmp_path / "environments"))
    monkeypatch.setattr(state, "_KNOWN", {})
    return folder
