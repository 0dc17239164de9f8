"""Join a Ray cluster or start one, without Ray's own signal handlers."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path

import ray

import farm
from farm.engine import private_ray
from farm.errors import InputError
from farm.interrupts import Interrupted

log = logging.getLogger(__name__)

_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # Ray sets it in a job's entry point


def connect(address: str | None) -> None:
    """Join the cluster at `address`; without one start Ray on this machine.

    Raises:
        InputError: no cluster answers at that address.
        FarmError: Ray cannot be started here.
        Interrupted: SIGTERM came meanwhile.
    """
    with _own_handlers():
        if address:
            _join(address)
        else:
            private_ray.start()
    resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
    log.debug(
        "%s Ray %s: %g CPUs, %g GPUs",
        f"joined {address}, a" if address else "started a local",
        ray.__version__,
        resources.get("CPU", 0),
        resources.get("GPU", 0),
    )


@contextmanager
def off_stdout(address: str | None) -> Iterator[None]:
    """Keep Ray's messages (of a worker that died, for instance) off stdout, which programs read.

    Those of a cluster go to stderr. Those of a local Ray are dropped: the executor reports itself
    what happened.
    """
    with ExitStack() as stack:
        sink = sys.stderr if address else stack.enter_context(open(os.devnull, "w"))
        stack.enter_context(redirect_stdout(sink))
        yield


@contextmanager
def _own_handlers() -> Iterator[None]:
    """Put back the sweep's handler for SIGTERM, which Ray replaces by its own."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit:  # raised by Ray's handler, while it is installed
        raise Interrupted from None
    finally:
        signal.signal(signal.SIGTERM, handler)


def _require_listener(address: str) -> None:
    """Raises InputError at once if nothing listens there; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address == "auto":
        return
    try:
        socket.create_connection((host, _port(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        reason = f"{error}; expected HOST:PORT, as `ray start` prints it"
        raise InputError(f"no Ray cluster answers there: {reason}", address) from None


def _port(text: str) -> int:
    """Raises ValueError for what is no port; the resolver would take 99999 as 99999 - 65536."""
    port = int(text)
    if not 0 < port < 1 << 16:
        raise ValueError(f"port {port} is not from 1 to 65535")
    return port


def _join(address: str) -> None:
    # The nodes get the farm's code from this process; inside a job they have it already.
    _require_listener(address)
    package = str(Path(farm.__file__).parent)
    shipped = {} if _JOB in os.environ else {"py_modules": [package]}
    try:
        ray.init(address=address, runtime_env=shipped, **private_ray.QUIET)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"no Ray cluster answers there: {reason}", address) from None
