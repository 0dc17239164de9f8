"""A Ray of this process's own, which nobody else can reach.

All of its servers listen on loopback, where other users of the machine need its token; its sockets,
logs and that token are in a folder which they cannot open.
"""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray._private import ray_constants
from ray._raylet import (  # type: ignore[attr-defined]
    AuthenticationTokenLoader,
    Config,
)

from farm.engine.temporary import TemporaryFolder
from farm.errors import FarmError, class_name, text_of
from farm.plan.placement import cores

QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}

_LONGEST_PARENT = 22
"""Of the folder in which Ray's is made, in characters: a socket's path has at most 107."""

_folder: TemporaryFolder | None = None


def start() -> None:
    """Start Ray on this machine, with as many CPUs as this process may use.

    Raises:
        FarmError: Ray cannot be started here.
    """
    global _folder
    # An interruption while Ray starts leaves no node that could be asked; Ray itself ends what it
    # has started when this process ends, by a function that it registers after this one.
    atexit.register(_remove_folder)
    _folder = TemporaryFolder("ray", _parent())
    try:
        with _environment(_with_token(_folder.path / "token")), _loopback():
            ray.init(
                address="local",
                num_cpus=cores(),
                include_dashboard=False,
                object_store_memory=100 << 20,  # artifacts are in the store, so no object is large
                _node_ip_address="127.0.0.1",
                _temp_dir=str(_folder.path / "r"),  # Ray lets everybody write into it
                **QUIET,
            )
    except (OSError, ValueError, RuntimeError, TimeoutError) as error:
        stop()
        reason = text_of(error).strip().partition("\n")[0]
        raise FarmError(
            f"Ray cannot be started on this machine: {class_name(error)}: {reason}; `farm doctor`"
            " says more, and --executor inline does without Ray"
        ) from error


def stop() -> None:
    """End the Ray that `start` has started, and remove its folder."""
    ray.shutdown()
    _read_token_again()
    _remove_folder()


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
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(path), "RAY_AUTH_TOKEN": None}


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
