"""Who may import whom: imports go down, and the pure core stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import PROJECT

FARM = PROJECT / "farm"

# Lower is more basic. A module may import its own layer and those below.
LAYERS = [
    {"errors", "interrupts", "units", "catalog", "decoded", "specs", "config", "plan", "store"}
    | {"jsonfile", "terminal"},
    {"sources", "runtimes", "datasets", "detections", "precision"},
    {"stages"},
    {"engine", "results"},
    {"__main__", "cli", "doctor", "models", "offline", "run", "single", "sweep", "writable"},
]
HEAVY = {"torch", "ray", "mlflow", "numpy", "pandas", "mmcv", "mmdet", "onnx", "cv2"}


def imports(path: Path, at_run_time: bool) -> Iterator[str]:
    """Modules imported by a file; without those under TYPE_CHECKING if `at_run_time`."""
    tree = ast.parse(path.read_text())
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if at_run_time and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            skipped |= set(ast.walk(node))
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


CUDA = ("farm.runtimes.trt.cuda",)
ON_GPUS = [
    FARM / "runtimes" / f"onnxruntime_{part}.py"
    for part in ("binding", "cuda", "options", "placement", "providers", "tensorrt")
]
"""ONNX Runtime's providers for GPUs; `onnxruntime.py` is the CPU's."""


def layer(name: str) -> int:
    return next(i for i, names in enumerate(LAYERS) if name in names)


def part(path: Path) -> str:
    return path.relative_to(FARM).parts[0].removesuffix(".py")


MODULES = [path for path in sorted(FARM.rglob("*.py")) if path != FARM / "__init__.py"]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(FARM)))
def test_no_module_imports_upwards(path: Path) -> None:
    for name in imports(path, at_run_time=False):
        parts = name.split(".")
        if parts[0] == "farm" and len(parts) > 1 and (FARM / parts[1]).exists():
            assert layer(parts[1]) <= layer(part(path)), f"{path} imports {name}"
    if part(path) == "results":
        assert not any(name.startswith("farm.engine.scheduler") for name in imports(path, False))


@pytest.mark.parametrize("name", sorted(LAYERS[0]))
def test_the_core_imports_nothing_heavy(name: str) -> None:
    paths = [FARM / f"{name}.py"] if (FARM / f"{name}.py").exists() else (FARM / name).rglob("*.py")
    for path in paths:
        found = {module.split(".")[0] for module in imports(path, at_run_time=True)}
        assert not found & HEAVY, path


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "null", "torch"])
def test_a_runtime_can_be_carried_alone(name: str) -> None:
    """With the files that begin with its name, which import nothing of the farm either."""
    own = sorted((FARM / "runtimes").glob(f"{name}*.py"))
    own = [path for path in own if path not in ON_GPUS]
    carried = {"farm.runtimes", *(f"farm.runtimes.{path.stem}" for path in own)}
    found = {module for path in own for module in imports(path, at_run_time=True)}
    assert not {module for module in found if module.startswith("farm")} - carried


def test_onnx_runtime_on_gpus_can_be_carried_alone() -> None:
    """With its files, the errors, and what asks the driver for GPUs."""
    found = {module for path in ON_GPUS for module in imports(path, at_run_time=True)}
    ours = {module for module in found if module.startswith("farm")}
    own = tuple(f"farm.runtimes.{path.stem}" for path in ON_GPUS)
    packages = {"farm.runtimes", "farm.runtimes.trt"}
    assert all(name.startswith((*own, "farm.errors", *CUDA)) for name in ours - packages)
    foreign = {name.split(".")[0] for name in found - ours} - sys.stdlib_module_names
    assert foreign == {"numpy", "onnx", "onnxruntime", "tensorrt"}


def test_the_tensorrt_adapter_can_be_carried_alone() -> None:
    """With its folder, and the errors; it imports numpy, cuda-python and the library only."""
    own = [*(FARM / "runtimes").glob("tensorrt*.py"), *(FARM / "runtimes" / "trt").glob("*.py")]
    found = {module for path in own for module in imports(path, at_run_time=True)}
    ours = {module for module in found if module.startswith("farm")}
    assert all(name.startswith(("farm.errors", "farm.runtimes")) for name in ours)
    foreign = {name.split(".")[0] for name in found - ours} - sys.stdlib_module_names
    assert foreign == {"numpy", "cuda", "tensorrt", "tensorrt_rtx_bindings"}


def test_help_is_light() -> None:
    code = (
        "import sys; sys.argv = ['farm', '--help']\nfrom farm.cli.main import main\n"
        "try: main()\nfinally: print(sorted(set(sys.modules) & "
        "{'torch','ray','mlflow','numpy','pandas','mmcv'}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
