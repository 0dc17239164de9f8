"""Who may import whom: imports go down, and the pure core stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from conftest import PROJECT

FARM = PROJECT / "farm"

# Lower is more basic. A module may import its own layer and those below.
DESCRIPTORS = ("datasets.base", "datasets.types", "runtimes.base")
"""What describes parts belongs to the core, and stands beside what it describes."""

LAYERS = [
    {
        "catalog",
        "config",
        "environments",
        "errors",
        "failures",
        "files",
        "interrupts",
        "options",
        "parts",
    }
    | {"called", "parsing", "plan", "specs", "store", "terminal", "units"},
    {"parts.sources", "sources", "runtimes", "datasets", "detections", "precision", "preprocess"}
    | {"measuring", "ranking"},
    {"stages"},
    {"engine", "results"},
    {
        "__main__",
        "api",
        "bisect",
        "bundle",
        "cli",
        "doctor",
        "init",
        "models",
        "offline",
        "run",
        "single",
        "sweep",
    },
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


CUDA = ("farm.runtimes.tensorrt.cuda",)
DESCRIBED = ("farm.options", "farm.parts", "farm.runtimes.base")
ON_GPUS = [
    path
    for path in sorted((FARM / "runtimes" / "onnxruntime").glob("*.py"))
    if path.stem not in ("__init__", "cpu", "cpu_files", "probe")
]
"""ONNX Runtime's providers for GPUs; the folder's other files are the CPU's."""


def layer(name: str) -> int:
    return next(i for i, names in enumerate(LAYERS) if name in names)


def part(path: Path) -> str:
    if path == FARM / "parts/sources.py":  # it imports the adapters that it describes
        return "parts.sources"
    return path.relative_to(FARM).parts[0].removesuffix(".py")


MODULES = [path for path in sorted(FARM.rglob("*.py")) if path != FARM / "__init__.py"]
TOP = {part(path) for path in MODULES}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(FARM)))
def test_no_module_imports_upwards(path: Path) -> None:
    # It names the types of a loaded model and of a context.
    types_only = path == FARM / "parts/__init__.py"
    for name in imports(path, at_run_time=types_only):
        parts = name.split(".")
        if name.removeprefix("farm.").startswith(DESCRIPTORS):
            continue
        if parts[0] == "farm" and len(parts) > 1 and parts[1] in TOP:
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
    """With the file or folder of its name, what describes runtimes, and how int8 is unsigned."""
    file = FARM / "runtimes" / f"{name}.py"
    own = [file] if file.exists() else sorted((FARM / "runtimes" / name).glob("*.py"))
    own = [path for path in own if path not in ON_GPUS and path.stem != "probe"]
    found = {module for path in own for module in imports(path, at_run_time=True)}
    ours = {module for module in found if module.startswith("farm")}
    own_names = (f"farm.runtimes.{name}", "farm.precision.unsigned", *DESCRIBED)
    assert all(module.startswith(own_names) for module in ours - {"farm.runtimes"})


def test_onnx_runtime_on_gpus_can_be_carried_alone() -> None:
    """With its files, what describes runtimes, the errors, and what asks the driver for GPUs."""
    found = {module for path in ON_GPUS for module in imports(path, at_run_time=True)}
    ours = {module for module in found if module.startswith("farm")}
    own = tuple(f"farm.runtimes.onnxruntime.{path.stem}" for path in ON_GPUS)
    packages = {"farm.runtimes", "farm.runtimes.onnxruntime", "farm.runtimes.tensorrt"}
    assert all(
        name.startswith((*own, "farm.errors", "farm.failures", *DESCRIBED, *CUDA))
        for name in ours - packages
    )
    foreign = {name.split(".")[0] for name in found - ours} - sys.stdlib_module_names
    assert foreign == {"numpy", "onnx", "onnxruntime", "pydantic", "tensorrt"}


def test_the_tensorrt_adapter_can_be_carried_alone() -> None:
    """With its folder, the errors, the atomic write and what describes runtimes; it imports numpy,
    pydantic, cuda-python and the library only."""
    own = sorted((FARM / "runtimes" / "tensorrt").glob("*.py"))
    found = {module for path in own for module in imports(path, at_run_time=True)}
    ours = {module for module in found if module.startswith("farm")}
    known = (
        "farm.files",
        "farm.errors",
        "farm.failures",
        "farm.runtimes",
        "farm.specs",
        *DESCRIBED,
    )
    assert all(name.startswith(known) for name in ours - {"farm"})
    foreign = {name.split(".")[0] for name in found - ours} - sys.stdlib_module_names
    assert foreign == {"numpy", "cuda", "pydantic", "tensorrt", "tensorrt_rtx_bindings"}


def test_help_is_light() -> None:
    code = (
        "import sys; sys.argv = ['farm', '--help']\nfrom farm.cli.main import main\n"
        "try: main()\nfinally: print(sorted(set(sys.modules) & "
        "{'torch','ray','mlflow','numpy','pandas','mmcv','rich'}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_descriptors_are_light() -> None:
    """A plan looks at all of them, and imports none of their libraries."""
    code = (
        "import sys\nfrom farm.catalog import DATASETS, RUNTIMES, SOURCES\n"
        "import farm.config.loader\n"
        "assert {'openvino', 'onnx', 'coco'} <= {*RUNTIMES, *SOURCES, *DATASETS}\n"
        "heavy = {'torch', 'numpy', 'onnx', 'onnxruntime', 'openvino', 'tensorrt', 'cuda'}\n"
        "print(sorted(set(sys.modules) & heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_chain_of_imports_is_longer_than_11_modules() -> None:
    """Of imports at the start of a module; those in functions and for types alone do not count."""
    names = {".".join(path.relative_to(PROJECT).with_suffix("").parts): path for path in MODULES}
    modules = {name.removesuffix(".__init__"): path for name, path in names.items()}

    def at_start(path: Path) -> set[str]:
        found = set()
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    found.add(inner if inner in modules else str(node.module))
        return found & set(modules)

    @cache
    def chain(name: str) -> tuple[str, ...]:
        below = [chain(one) for one in at_start(modules[name]) if one != name]
        return (name, *max(below, key=len, default=()))

    longest = max(map(chain, modules), key=len)
    assert len(longest) <= 11, longest
