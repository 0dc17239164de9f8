"""What this machine can run, what is missing, and how to get it: `farm doctor`.

Every library is tried in a process of its own: one that crashes is a finding, not the end.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from farm.plan.devices import cores, cpu_model

Status = Literal["ok", "warning", "missing"]

WIDTH = 80
PATIENCE_S = 180  # first imports on a cold, busy disk
NEEDED = ("Python", "torch", "mmcv-full", "mmdet", "onnx")
RUNTIMES = ("onnxruntime", "openvino")
SWEEP_DISK_GB = 5


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for: `found` says what there is, `how` how to get what lacks."""

    name: str
    status: Status
    found: str
    how: str = ""


def report(results: Path = Path("results")) -> list[Finding]:
    """Everything `farm doctor` looks at, in the order it is shown; takes some seconds."""
    with ThreadPoolExecutor(max_workers=3) as pool:
        libraries = list(pool.map(_try, PROBES))
    return [_python(), *libraries, _cpu(), _memory(), _disk(results), _compiler()]


def can_sweep(findings: list[Finding]) -> bool:
    """Whether a sweep can run on this machine's CPU: PyTorch, mmdet, ONNX and one runtime."""
    works = {finding.name for finding in findings if finding.status != "missing"}
    return works.issuperset(NEEDED) and not works.isdisjoint(RUNTIMES)


def print_report(results: Path = Path("results")) -> int:
    """Show the findings within 80 columns. Returns 0 when a sweep can run on the CPU, else 1."""
    findings = report(results)
    for finding in findings:
        print(_lines(finding))
    ready = can_sweep(findings)
    print()
    print("A sweep can run on this CPU." if ready else "A sweep cannot run here yet: see above.")
    return 0 if ready else 1


def _lines(finding: Finding) -> str:
    head = f"{finding.status:<8} {finding.name:<12} "
    indent = " " * len(head)
    found = textwrap.fill(finding.found, WIDTH, initial_indent=head, subsequent_indent=indent)
    if not finding.how:
        return found
    # A command must stay in one piece: no break at its hyphens, none inside its words.
    how = textwrap.fill(
        finding.how,
        WIDTH,
        initial_indent=f"{indent}-> ",
        subsequent_indent=f"{indent}   ",
        break_on_hyphens=False,
        break_long_words=False,
    )
    return f"{found}\n{how}"


# ---------------------------------------------------------------- libraries


def _try(name: str) -> Finding:
    """Run the probe called `name` in a child; a child that fails is a finding too."""
    paths = [str(Path(__file__).resolve().parent.parent), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-W", "ignore", "-m", "farm.doctor", name]
    try:
        child = subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
    except subprocess.TimeoutExpired:
        return Finding(name, "missing", f"no answer within {PATIENCE_S} s", HOW[name])
    if child.returncode == 0:
        return Finding(**json.loads(child.stdout.strip().splitlines()[-1]))
    return Finding(name, "missing", _why(child), HOW[name])


def _why(child: subprocess.CompletedProcess[str]) -> str:
    if child.returncode < 0:
        return f"crashes when it is used ({signal.Signals(-child.returncode).name})"
    said = child.stderr.strip().splitlines() or ["no message"]
    return f"does not work: {said[-1]}"


def _torch() -> Finding:
    import torch

    build = f"CUDA {torch.version.cuda} build" if torch.version.cuda else "CPU build"
    return Finding("torch", "ok", f"{torch.__version__}, {build}")


def _mmcv() -> Finding:
    importlib.import_module("farm.sources.mmdet.compat")
    import torch
    from mmcv.ops import nms

    boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 8], [20, 20, 30, 30]])
    kept, _ = nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5)
    if len(kept) != 2:
        return Finding(
            "mmcv-full", "missing", "its compiled NMS gives wrong boxes", HOW["mmcv-full"]
        )
    return Finding("mmcv-full", "ok", f"{version('mmcv-full')}, compiled operators work")


def _mmdet() -> Finding:
    importlib.import_module("farm.sources.mmdet.compat")
    return Finding("mmdet", "ok", version("mmdet"))


def _onnx() -> Finding:
    import onnx

    return Finding("onnx", "ok", onnx.__version__)


def _onnxslim() -> Finding:
    importlib.import_module("onnxslim")
    return Finding("onnxslim", "ok", f"{version('onnxslim')} (for `simplify: true` only)")


def _onnxruntime() -> Finding:
    import onnxruntime

    providers = onnxruntime.get_available_providers()
    names = ", ".join(name.removesuffix("ExecutionProvider") for name in providers)
    found = f"{onnxruntime.__version__}; providers: {names}"
    if _installed("onnxruntime") and _installed("onnxruntime-gpu"):
        return Finding(
            "onnxruntime",
            "warning",
            f"{found}. onnxruntime and onnxruntime-gpu overwrite each other, and both are here",
            "pip uninstall onnxruntime onnxruntime-gpu, then install one of them",
        )
    return Finding("onnxruntime", "ok", found)


def _openvino() -> Finding:
    import openvino

    core = openvino.Core()
    found = f"{version('openvino')}; devices: {', '.join(core.available_devices)}"
    if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        found += ". It would run fp32 models in bf16 on this CPU; the farm tells it not to"
    return Finding("openvino", "ok", found)


def _tensorrt() -> Finding:
    """Whether there is a GPU is asked of the driver: trt.Runtime crashes where there is none."""
    if not _installed("tensorrt"):
        return Finding("tensorrt", "missing", "not installed", HOW["tensorrt"])
    import tensorrt

    if not _gpus():
        return Finding(
            "tensorrt", "warning", f"{tensorrt.__version__}, but no NVIDIA GPU to run on"
        )
    return Finding("tensorrt", "ok", tensorrt.__version__)


def _tensorrt_rtx() -> Finding:
    """A builder is made: that needs no GPU."""
    if not _installed("tensorrt-rtx-cu13-bindings"):
        return Finding("tensorrt_rtx", "missing", "not installed", HOW["tensorrt_rtx"])
    import tensorrt_rtx_bindings as library

    library.Builder(library.Logger(library.Logger.ERROR))
    runs = "builds and runs" if _gpus() else "builds engines; no NVIDIA GPU to run them on"
    return Finding("tensorrt_rtx", "ok", f"{library.__version__}, {runs}")


def _gpu() -> Finding:
    from farm.runtimes.trt import cuda

    try:
        found = cuda.gpus()
    except cuda.CudaError as error:
        return Finding("NVIDIA GPU", "missing", str(error), HOW["NVIDIA GPU"])
    names = (f"{gpu}, {gpu.memory_bytes / 2**30:.0f} GiB" for gpu in found)
    return Finding("NVIDIA GPU", "ok", "; ".join(names))


def _gpus() -> bool:
    from farm.runtimes.trt import cuda

    try:
        return bool(cuda.gpus())
    except cuda.CudaError:
        return False


def _ray() -> Finding:
    return Finding("ray", "ok", version("ray"))


def _mlflow() -> Finding:
    return Finding("mlflow", "ok", version("mlflow"))


PROBES: dict[str, Callable[[], Finding]] = {
    "torch": _torch,
    "mmcv-full": _mmcv,
    "mmdet": _mmdet,
    "onnx": _onnx,
    "onnxslim": _onnxslim,
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    "tensorrt": _tensorrt,
    "tensorrt_rtx": _tensorrt_rtx,
    "NVIDIA GPU": _gpu,
    "ray": _ray,
    "mlflow": _mlflow,
}


def _extra(name: str) -> str:
    return f"pip install -e '.[{name}]' -c constraints.txt"


HOW = {
    "torch": _extra("mmdet"),
    "mmcv-full": "make setup (it builds mmcv-full against this torch)",
    "mmdet": _extra("mmdet"),
    "onnx": _extra("mmdet"),
    "onnxslim": f"{_extra('mmdet')} (for `simplify: true` only)",
    "onnxruntime": f"{_extra('onnxruntime')} (with an NVIDIA GPU: gpu in place of onnxruntime)",
    "openvino": _extra("openvino"),
    "tensorrt": f"{_extra('tensorrt')} (for NVIDIA GPUs only)",
    "tensorrt_rtx": f"{_extra('tensorrt_rtx')} (builds on any machine)",
    "NVIDIA GPU": "install NVIDIA's driver, if there is a GPU (for tensorrt and tensorrt_rtx only)",
    "ray": "pip install -e . -c constraints.txt",
    "mlflow": "pip install -e . -c constraints.txt",
}


def _installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


# ---------------------------------------------------------------- the machine


def _python() -> Finding:
    return Finding("Python", "ok", f"{platform.python_version()} ({sys.executable})")


def _cpu() -> Finding:
    # As plans name it: a target's `device` is written like this.
    return Finding("CPU", "ok", f"{cpu_model()}, {cores()} cores for this process")


def _memory() -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Finding("memory", "ok", f"{total / 2**30:.1f} GiB")


def _disk(results: Path) -> Finding:
    """Free space where the results go, or at the nearest folder that exists already."""
    wanted = results.absolute()
    there = next(folder for folder in (wanted, *wanted.parents) if folder.is_dir())
    free = shutil.disk_usage(there).free / 1e9
    found = f"{free:.0f} GB free for {wanted}"
    if free < SWEEP_DISK_GB:
        return Finding("disk", "warning", found, "make room, or name another results folder")
    return Finding("disk", "ok", found)


def _compiler() -> Finding:
    if path := shutil.which(os.environ.get("CXX") or "g++"):
        return Finding("g++", "ok", path)
    return Finding("g++", "warning", "not found; mmcv-full is built with it", "apt-get install g++")


def main() -> int:
    """The whole report; or, with the name of a probe, that finding as one line of JSON."""
    if len(sys.argv) == 1:
        return print_report()
    print(json.dumps(asdict(PROBES[sys.argv[1]]())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
