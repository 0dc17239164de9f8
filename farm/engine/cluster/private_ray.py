"""A Ray of this process's own, which nobody else can reach.

All of its servers listen on loopback, where other users of the machine need its token; its sockets,
logs and that token are in a folder which they cannot open.
"""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray._private import ray_constants
from ray._raylet import (  # type: ignore[attr-defined]
    AuthenticationTokenLoader,
    Config,
)

from farm.engine.cluster import ray_thread
from farm.engine.workers.temporary import (
    TOKEN,
    TOKEN_VARIABLE,
    TemporaryFolder,
    remove_abandoned,
)
from farm.errors import FarmError
from farm.failures import class_name, text_of
from farm.interrupts import Interrupted
from farm.plan.machines.placement import cores

QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}

_LONGEST_PARENT = 22
"""Of the folder in which Ray's is made, in characters: a socket's path has at most 107."""

_MOST_OBJECT_BYTES = 100 << 20
"""Of Ray's own store: artifacts are in the farm's, so no object is large."""

_SHUTDOWN_S = 15.0
"""How long Ray may take to end, in seconds."""

_folder: TemporaryFolder | None = None


def start() -> None:
    """Start Ray on this machine, with as many CPUs as this process may use.

    Raises:
        FarmError: Ray cannot be started here.
    """
    global _folder
    atexit.register(_remove_folder)
    try:
        _folder = TemporaryFolder("ray", _parent())
        ray_thread.call(partial(_init, _folder.path))
    except Interrupted:
        kill()
        raise
    except (OSError, ValueError, RuntimeError, TimeoutError) as error:
        stop()
        reason = text_of(error).strip().partition("\n")[0]
        raise FarmError(
            f"Ray cannot be started on this machine: {class_name(error)}: {reason}; `farm doctor`"
            " says more, and --executor inline does without Ray"
        ) from error


def _init(folder: Path) -> None:
    with _environment(_with_token(folder / TOKEN)), _loopback():
        ray.init(
            address="local",
            num_cpus=cores(),
            include_dashboard=False,
            object_store_memory=_MOST_OBJECT_BYTES,
            _node_ip_address="127.0.0.1",
            _temp_dir=str(folder / "r"),  # Ray lets everybody write into it
            **QUIET,
        )


def stop() -> None:
    """End the Ray that `start` has started, and remove its folder.

    Raises:
        Interrupted: a signal has come meanwhile; Ray has been killed.
    """
    try:
        ray_thread.call(ray.shutdown, _SHUTDOWN_S)
    except TimeoutError:  # a part of it may hang
        kill()
    except Interrupted:
        kill()
        raise
    _read_token_again()
    _remove_folder()


def kill() -> None:
    """End the Ray that `start` has started, or is starting, without asking it; remove its folder.

    Asking takes seconds, during which Ray may also abort this process where steps end. Ray's
    library cannot be used afterwards.
    """
    ray_thread.abandon()
    ray_thread.kill_started()
    if _folder is not None:
        atexit.register(_kill_again, _folder.path)
    _remove_folder()


def _kill_again(folder: Path) -> None:
    """End what a Ray has started that was starting when it was killed."""
    ray_thread.kill_started()
    shutil.rmtree(folder, ignore_errors=True)
    remove_abandoned()


def _remove_folder() -> None:
    global _folder
    if _folder is not None:
        _folder.remove()
        _folder = None


def _parent() -> Path:
    wanted = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    return Path(wanted if len(wanted) <= _LONGEST_PARENT else "/tmp")


def _with_token(path: Path) -> Mapping[str, str | None]:
    """Write a new token; return the variables by which Ray's processes find it and no other."""
    path.touch(mode=0o600)
    path.write_text(secrets.token_hex(32))
    return {"RAY_AUTH_MODE": "token", TOKEN_VARIABLE: str(path), "RAY_AUTH_TOKEN": None}


@contextmanager
def _environment(variables: Mapping[str, str | None]) -> Iterator[None]:
    """Set variables, or remove those that are None, for the processes that Ray starts meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    _set(variables)
    _read_token_again()
    try:
        yield
    finally:
        _set(before)


def _set(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _read_token_again() -> None:
    """Let Ray's library, which reads mode and token once in a process, read them anew."""
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def _loopback() -> Iterator[None]:
    """Let Ray take 127.0.0.1 as it is given.

    Ray puts the machine's own address in its place, and its servers then listen on all interfaces,
    except where it supports no cluster (`RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER`). That variable is
    read when Ray is imported, so what is read from it is set here.
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
