"""Ray, reached or started; the sweep's own handling of signals stays, and the token is private."""

from __future__ import annotations

import logging
import os
import signal
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import ray

import farm
from farm.errors import InputError
from farm.interrupts import Interrupted
from farm.plan.placement import cores

_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # set by Ray where a job's entrypoint runs
_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}


def connect(address: str | None) -> None:
    """The cluster at `address`, else a Ray of this machine's own, begun now.

    Raises InputError if no cluster answers there.
    """
    with _own_handlers():
        if address:
            _join(address)
        else:
            with _private_token():
                _begin()


@contextmanager
def off_stdout(address: str | None) -> Iterator[None]:
    """Ray's thread of messages (of workers that died, say) prints to stdout, which programs read.

    Those of a cluster go to stderr; of a Ray of its own the executor says itself what happened.
    """
    with ExitStack() as stack:
        sink = sys.stderr if address else stack.enter_context(open(os.devnull, "w"))
        stack.enter_context(redirect_stdout(sink))
        yield


@contextmanager
def _own_handlers() -> Iterator[None]:
    """Ray puts a handler for SIGTERM in place of the sweep's, which ends the sweep in order."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit:  # by Ray's handler, while it is there
        raise Interrupted from None
    finally:
        signal.signal(signal.SIGTERM, handler)


@contextmanager
def _private_token() -> Iterator[None]:
    """Ray writes `~/.ray/auth_token` for everybody to read; into a file that is there already, it
    writes with that file's mode."""
    path = Path.home() / ".ray" / "auth_token"
    with suppress(OSError):  # no home to write in: Ray itself says what it makes of that
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600, exist_ok=True)
        path.chmod(stat.S_IMODE(path.stat().st_mode) & ~0o077)
    try:
        yield
    finally:
        with suppress(OSError):
            if path.stat().st_size == 0:  # Ray wanted none
                path.unlink()


def _reach(address: str) -> None:
    """Ray itself would try for minutes. Raises InputError if nothing listens there."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address == "auto":
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError, OverflowError) as error:
        reason = f"{error}; expected HOST:PORT, as `ray start` prints it"
        raise InputError(f"no Ray cluster answers there: {reason}", address) from None


def _join(address: str) -> None:
    # The nodes get the farm's own code from here; inside a job they have it already.
    _reach(address)
    package = str(Path(farm.__file__).parent)
    shipped = {} if _JOB in os.environ else {"py_modules": [package]}
    try:
        ray.init(address=address, runtime_env=shipped, **_QUIET)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"no Ray cluster answers there: {reason}", address) from None


def _begin() -> None:
    ray.init(
        address="local",
        num_cpus=cores(),
        include_dashboard=False,
        object_store_memory=100 << 20,  # nothing large travels: artifacts lie in the store
        _node_ip_address="127.0.0.1",
        **_QUIET,
    )
