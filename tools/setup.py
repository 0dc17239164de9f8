"""Make the farm's virtual environment; run again it returns at once, or repairs what was torn.

Needs nothing but Python's standard library, and asks no index by name: pip uses the one that the
machine is configured with. The order matters: mmcv-full compiles against the torch that is there,
and looks for an OpenCV that is there.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections import deque
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECIPE = ("pyproject.toml", "constraints.txt", "tools/build_mmcv.py", "tools/setup.py")
CONSTRAINTS = ROOT / "constraints.txt"
OLDEST = (3, 10)
LOG = "farm-setup.log"
# CPU torch and the rest take 2.6 GB, pip's downloads as much again; CUDA's libraries 5 GB more.
DISK_GB, DISK_GB_CUDA, DISK_GB_AGAIN = 6, 14, 1
# Of pip's and the compiler's lines: downloads of 10 MB and more, and what takes minutes.
SHOWN = re.compile(r"\s*(?:Downloading .*\(\d{2,}[.\d]* MB\)|Building |mmcv-full:)")
STARTED = time.monotonic()


class Stop(Exception):
    """Setup cannot continue; the message states the reason and what to do."""


def venv_folder() -> Path:
    return Path(os.path.abspath(ROOT / os.environ.get("VENV", ".venv")))


def say(text: str) -> None:
    minutes, seconds = divmod(int(time.monotonic() - STARTED), 60)
    print(f"[{minutes:2d}:{seconds:02d}] {text}", flush=True)


# ---------------------------------------------------------------- what the machine must have


def missing(venv: Path, version: tuple[int, ...] = tuple(sys.version_info[:2])) -> list[str]:
    """What this machine lacks, each with the way to get it; empty when setting up can begin."""
    found = [
        _python(version),
        _venv_module(version),
        _compiler(),
        _headers(version),
        _disk(venv),
        _folder(venv),
    ]
    return [text for text in found if text]


def _python(version: tuple[int, ...]) -> str:
    if version >= OLDEST:
        return ""
    return (
        "Python {}.{} or newer; this is {}.{} ({})\n".format(*OLDEST, *version[:2], sys.executable)
        + "    apt-get install python3, or name another one: make setup PYTHON=python3.11"
    )


def _venv_module(version: tuple[int, ...]) -> str:
    lacking = [name for name in ("venv", "ensurepip") if not importlib.util.find_spec(name)]
    if not lacking:
        return ""
    return "Python's module {}\n    apt-get install python{}.{}-venv".format(
        " and ".join(lacking), *version[:2]
    )


def _compiler() -> str:
    name = os.environ.get("CXX") or "g++"
    if shutil.which(name):
        return ""
    return f"a C++ compiler ({name} is not on the PATH), for mmcv-full\n    apt-get install g++"


def _headers(version: tuple[int, ...]) -> str:
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if header.is_file():
        return ""
    return "Python's headers ({} is not there), for mmcv-full\n    apt-get install {}".format(
        header, "python{}.{}-dev".format(*version[:2])
    )


def _disk(venv: Path) -> str:
    there = next(folder for folder in (venv, *venv.parents) if folder.is_dir())
    if any(venv.glob("lib/python3*/site-packages/torch")):
        needed = DISK_GB_AGAIN
    else:
        needed = DISK_GB_CUDA if gpus() else DISK_GB
    free = shutil.disk_usage(there).free / 1e9
    if free >= needed:
        return ""
    return (
        f"disk space: {needed} GB at {there}, where {free:.1f} GB are free\n"
        "    make room there, or name another folder: make setup VENV=/big/disk/farm-venv"
    )


def _folder(venv: Path) -> str:
    if not venv.exists() or (venv / "pyvenv.cfg").is_file():
        return ""
    if not any(path.is_file() for path in venv.rglob("*") if path.name != LOG):
        return ""  # empty, or from an attempt that was killed at its start
    return f"a folder of its own: {venv} exists and is no virtual environment\n    rename it"


def gpus() -> int:
    """How many NVIDIA GPUs the driver shows; 0 where there is no driver."""
    count = ctypes.c_int(0)
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
        answers = (cuda.cuInit(0), cuda.cuDeviceGetCount(ctypes.byref(count)))
    except (OSError, AttributeError):
        return 0
    return 0 if any(answers) else count.value


# ---------------------------------------------------------------- what is there already


def digest(extras: str) -> str:
    """Return a digest of the recipe, the location and the extras of the environment."""
    text = hashlib.sha256(f"{ROOT}\n{extras}\n".encode())
    for name in RECIPE:
        text.update((ROOT / name).read_bytes())
    return text.hexdigest()


def stamp(venv: Path) -> Path:
    return venv / "farm-setup.stamp"


def is_made(venv: Path, extras: str) -> bool:
    kept = stamp(venv)
    if not (kept.is_file() and (venv / "bin" / "python").exists()):
        return False
    return kept.read_text().strip() == digest(extras)


def wanted_extras() -> str:
    """Return the extras of pyproject.toml: FARM_EXTRAS, or those that suit this machine."""
    if named := os.environ.get("FARM_EXTRAS"):
        return named
    return f"mmdet,{'gpu' if gpus() else 'onnxruntime'},openvino,tensorrt_rtx,remote,report,dev"


# ---------------------------------------------------------------- the steps


class Environment:
    """The virtual environment in `folder`, and the log of what was done to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "bin" / "python"
        self.log = folder / LOG

    def run(self, *command: str) -> str:
        """Run a command and show its progress. Returns the last line; raises Stop."""
        tail = deque([""], maxlen=40)  # type: deque[str]
        with self.log.open("a") as log:
            log.write("$ {}\n".format(" ".join(command)))
            with subprocess.Popen(
                command,
                cwd=ROOT,
                text=True,
                errors="replace",
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            ) as process:
                for line in process.stdout or ():
                    log.write(line)
                    tail.append(line.rstrip())
                    if SHOWN.match(line):
                        say("    " + line.strip())
        if process.returncode:
            raise Stop("\n".join([*tail, "", f"failed: {' '.join(command)}", f"log: {self.log}"]))
        return tail[-1]

    def pip(self, command: str, *arguments: str) -> None:
        options = ["--no-input", "--disable-pip-version-check"]
        if command == "install":
            options += ["--progress-bar", "off", "-c", str(CONSTRAINTS)]
        self.run(str(self.python), "-m", "pip", command, *options, *arguments)

    def make(self) -> None:
        """Create the environment, or recreate one in which pip does not work."""
        if self._works():
            return
        say(f"virtual environment {self.folder} (Python {sys.version.split()[0]})")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.run(sys.executable, "-m", "venv", "--clear", str(self.folder))

    def _works(self) -> bool:
        code = f"import sys, pip._internal.cli.main; sys.exit(sys.version_info < {OLDEST})"
        try:
            run = subprocess.run([str(self.python), "-c", code], capture_output=True, check=False)
            return run.returncode == 0
        except OSError:
            return False

    def forget_torn_packages(self) -> None:
        """Let pip see a package as absent if it was killed while it installed or removed it."""
        for site in self.folder.glob("lib/python3*/site-packages"):
            torn = [info for info in site.glob("*.dist-info") if not (info / "RECORD").is_file()]
            for path in [*torn, *site.glob("~*")]:
                say(f"half installed, to be done again: {path.name}")
                shutil.rmtree(path, ignore_errors=True)

    def installed(self, name: str) -> bool:
        pattern = name.replace("-", "_") + "-*.dist-info"
        return any(self.folder.glob(f"lib/python3*/site-packages/{pattern}"))


def install(env: Environment, extras: str) -> None:
    env.make()
    env.forget_torn_packages()
    say("pip, setuptools, wheel, ninja")
    env.pip("install", "--upgrade", "pip", "setuptools<81", "wheel", "ninja")
    say("torch, OpenCV and numpy")
    env.pip("install", "torch", "opencv-python-headless", "numpy")
    say("mmcv-full: a kept wheel, or about a minute of compiling on 2 cores, once per machine")
    wheel = env.run(str(env.python), "tools/build_mmcv.py")
    env.pip("install", "--no-deps", "--force-reinstall", wheel)
    drop_other_onnxruntime(env, extras)
    say(f"farm[{extras}]")
    env.pip("install", "--no-build-isolation", "-e", f".[{extras}]")


def drop_other_onnxruntime(env: Environment, extras: str) -> None:
    """The CPU and GPU packages are the same files: taking one away would tear the other."""
    other = "onnxruntime" if "gpu" in extras.split(",") else "onnxruntime-gpu"
    if env.installed(other):
        say(f"removing {other}, which excludes the one for this machine")
        env.pip("uninstall", "--yes", "onnxruntime", "onnxruntime-gpu")


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the farm's virtual environment.")
    parser.add_argument("--check", action="store_true", help="only say what the machine lacks")
    check = parser.parse_args().check
    venv, extras = venv_folder(), wanted_extras()
    if not check and is_made(venv, extras):
        say(f"{venv} is up to date")
        return 0
    lacks = missing(venv)
    if lacks:
        print("The farm cannot be set up here yet. Missing:\n", file=sys.stderr)
        print("\n\n".join(f"  - {text}" for text in lacks), file=sys.stderr)
        return 2
    if check:
        say("nothing is missing")
        return 0
    env = Environment(venv)
    stamp(venv).unlink(missing_ok=True)
    try:
        install(env, extras)
    except Stop as reason:
        print(reason, file=sys.stderr)
        return 1
    stamp(venv).write_text(digest(extras) + "\n")
    say(f"{venv} is ready")
    return 0


if __name__ == "__main__":
    sys.exit(main())
