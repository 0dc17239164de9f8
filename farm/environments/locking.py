"""Resolve what an environment asks for to the exact release of every package: its lock."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import re
import sys
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from farm.environments import uv
from farm.environments.making import root
from farm.files import atomic

if TYPE_CHECKING:
    from farm.specs import Environment

WORKER = (
    "hotcoco>=1.3",
    "numpy>=1.26",
    "onnx>=1.16",
    "opencv-python-headless>=4.8",
    "pillow>=10",
    "psutil>=5.9",
    "pycocotools>=2.0.7",
    "pydantic>=2.12",
    "scipy>=1.11",
)
"""What the farm's own code needs in the process of a step that builds or runs an engine."""

ALTERNATIVES = {
    "onnxruntime": ("onnxruntime-gpu",),
    "opencv-python-headless": ("opencv-python", "opencv-contrib-python"),
    "tensorrt": ("tensorrt-cu13", "tensorrt-cu12", "tensorrt-cu11"),
}
"""The same modules under the name of another package: only one of them can be installed."""


def package_of(requirement: str) -> str:
    """Return the name of the package that a requirement asks for, as indexes normalise it."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    return re.sub(r"[-_.]+", "-", found[0]).lower().strip("-") if found else ""


def with_needed(own: tuple[str, ...], packages: tuple[str, ...]) -> tuple[str, ...]:
    """Return the requirements of an environment, with those of the farm's code and its runtime.

    own: the matrix's. packages: of the runtime and the stages, by name, in any release. One that
    is installed here from elsewhere than an index is not added: an index may have another one of
    that name.
    """
    there, farms = {package_of(one) for one in own}, {package_of(one) for one in WORKER}
    of_parts = (name for name in packages if package_of(name) not in farms)
    needed = [*(name for name in of_parts if not _of_no_index(name)), *WORKER]
    return own + tuple(
        one
        for one in needed
        if there.isdisjoint({package_of(one), *ALTERNATIVES.get(package_of(one), ())})
    )


def _of_no_index(package: str) -> bool:
    try:
        return importlib.metadata.distribution(package).read_text("direct_url.json") is not None
    except importlib.metadata.PackageNotFoundError:
        return False


def python_version() -> str:
    """Return the version of this Python as environments name it, `3.11`."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def locked(wanted: Environment, resolve: bool = True) -> Environment | None:
    """Return the environment with its lock: as it was resolved before, else by the index now.

    resolve: whether to ask the index; without that, None is returned for what was never resolved.

    Raises:
        EnvironmentFailed: no releases satisfy the requirements, or the index does not answer.
    """
    path = _place(wanted)
    try:
        lock = path.read_text()
    except OSError:
        if not resolve:
            return None
        lock = _resolve(wanted)
        with suppress(OSError):  # a cache that cannot be written: it is resolved again next time
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic.write(path, lock, durable=False)
    return replace(wanted, lock=lock)


def _place(wanted: Environment) -> Path:
    """Return the file of the lock, by what is asked for and for which machines."""
    asked = [sorted(wanted.requirements), wanted.python, sys.platform, platform.machine()]
    return root() / "locks" / f"{hashlib.sha256(json.dumps(asked).encode()).hexdigest()}.txt"


def _resolve(wanted: Environment) -> str:
    """Resolve by the index. Of several releases that fit, this process's own are preferred, so
    that as little as possible differs from the farm's environment."""
    with tempfile.TemporaryDirectory(prefix="farm-lock-") as folder:
        lock = Path(folder, "lock.txt")
        lock.write_text("".join(f"{name}=={version}\n" for name, version in _installed()))
        words = ("pip", "compile", "-", "--output-file", str(lock), "--python", sys.executable)
        form = ("--python-version", wanted.python, "--no-header", "--no-annotate", "--quiet")
        uv.run(*words, *form, stdin="\n".join(wanted.requirements))
        return lock.read_text()


def _installed() -> list[tuple[str, str]]:
    """Return the packages of this process that came from an index, with their versions."""
    found = {
        dist.name: dist.version
        for dist in importlib.metadata.distributions()
        if dist.name and not dist.read_text("direct_url.json")
    }
    return sorted(found.items())
