"""Make an environment on this machine by its lock, and start processes in it."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from farm.environments import uv
from farm.errors import EnvironmentFailed, shown
from farm.files import cache_folder

if TYPE_CHECKING:
    from farm.specs import Environment

PACKAGE = Path(__file__).resolve().parents[1]
"""The folder of the farm's own code, which an environment runs as it is here."""

# Its folder must not be on Python's path: beside it lie the packages of the farm's environment.
_IMPORT_FARM = """\
import importlib.util, sys
spec = importlib.util.spec_from_file_location(
    "farm", {init!r}, submodule_search_locations=[{folder!r}]
)
sys.modules["farm"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["farm"])
"""

_OF_ANOTHER_PYTHON = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")


def root() -> Path:
    """Return the folder of all environments on this machine: FARM_ENVIRONMENTS, else in the user's
    cache."""
    own = os.environ.get("FARM_ENVIRONMENTS")
    return Path(own).expanduser() if own else cache_folder() / "environments"


def command(environment: Environment, code: str) -> list[str]:
    """Return the command that runs Python code in the environment, made first where it is not.

    The code can import the farm as it is here, and the environment's own packages.

    Raises:
        EnvironmentFailed: it cannot be made.
    """
    begin = _IMPORT_FARM.format(init=str(PACKAGE / "__init__.py"), folder=str(PACKAGE))
    return [interpreter(environment), "-I", "-c", begin + code]


def variables(env: Mapping[str, str]) -> dict[str, str]:
    """Return these variables without those that lead to another Python's packages."""
    return {name: value for name, value in env.items() if name not in _OF_ANOTHER_PYTHON}


def interpreter(environment: Environment) -> str:
    """Return the path of the environment's Python, made first where it is not on this machine.

    Of an image it is this process's own, which Ray has started in the container.

    Raises:
        EnvironmentFailed: it cannot be made, or there is no such interpreter.
    """
    if environment.image:
        return sys.executable
    if environment.interpreter:
        return _ready(environment)
    if not environment.lock:
        raise EnvironmentFailed(f"environment {environment.name} was not resolved")
    python = uv.python_of(root() / environment.digest)
    if not python.exists():
        try:
            _make(environment, python.parents[1])
        except EnvironmentFailed as error:
            raise EnvironmentFailed(f"environment {environment.name}: {error}") from None
        except OSError as error:
            why = f"cannot be made: {error.strerror or error}"
            raise EnvironmentFailed(f"environment {environment.name} {why}") from None
    return str(python)


def _ready(environment: Environment) -> str:
    path = environment.interpreter
    if not (os.path.isfile(path) and os.access(path, os.X_OK)):
        raise EnvironmentFailed(
            f"environment {environment.name}: interpreter {shown(path)} is no program here"
        )
    return path


def _make(environment: Environment, folder: Path) -> None:
    """Make it under another name, and rename it: what a killed process leaves is never used.

    Raises:
        EnvironmentFailed: uv cannot make it.
        OSError: the folder cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _one_at_a_time(folder.with_name(f"{folder.name}.lock")) as alone:
        if uv.python_of(folder).exists():
            return  # made by another process meanwhile
        shutil.rmtree(folder, ignore_errors=True)  # its Python was removed
        for left in folder.parent.glob(f"{folder.name}.*.part") if alone else ():
            shutil.rmtree(left, ignore_errors=True)  # of a process that was killed
        part = folder.with_name(f"{folder.name}.{uuid4().hex[:8]}.part")
        try:
            _install(environment, part)
            _publish(part, folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _publish(part: Path, folder: Path) -> None:
    try:
        part.rename(folder)
    except OSError:
        if not uv.python_of(folder).exists():  # else it was made meanwhile, without a lock
            raise


def _install(environment: Environment, folder: Path) -> None:
    _make_python(_base(environment), folder)
    lock = folder / "lock.txt"
    lock.write_text(environment.lock)
    python = str(uv.python_of(folder))
    uv.run("pip", "install", "--quiet", "--python", python, "--no-deps", "-r", str(lock))


def _make_python(base: str, folder: Path) -> None:
    try:
        uv.run("venv", "--relocatable", "--quiet", "--python", base, str(folder))
    except EnvironmentFailed as error:
        if base == sys.executable:
            raise
        why = f"there is no Python {base} here, and uv cannot get it: {error}"
        raise EnvironmentFailed(why) from None


def _base(environment: Environment) -> str:
    """Return the Python to make it of: this one if it has the version, else uv looks for one."""
    here = ".".join(map(str, sys.version_info[:3]))
    fits = f"{here}.".startswith(f"{environment.python}.")
    return sys.executable if fits else environment.python


@contextmanager
def _one_at_a_time(path: Path) -> Iterator[bool]:
    """Let one process of this machine make an environment, and the others wait for it.

    Yields whether it does: a file system without locks lets them all make it, and keeps the first
    one's.
    """
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            alone = True
        except OSError:
            alone = False
        yield alone
