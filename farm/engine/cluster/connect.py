"""Join a Ray cluster or start one, without Ray's own signal handlers."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from functools import partial
from pathlib import Path

import ray

import farm
from farm.engine.cluster import private_ray, ray_thread
from farm.engine.workers.temporary import remove_abandoned
from farm.errors import InputError

log = logging.getLogger(__name__)

_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # Ray sets it in a job's entry point

_LEAVE_S = 10.0
"""How long leaving a cluster may take, in seconds."""


def connect(address: str | None) -> None:
    """Join the cluster at `address`; without one start Ray on this machine.

    Raises:
        InputError: no cluster answers at that address.
        FarmError: Ray cannot be started here.
        Interrupted: SIGTERM came meanwhile.
    """
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


def disconnect(address: str | None, answers: bool = True) -> None:
    """Leave the cluster at `address`; without one end the Ray that `connect` has started.

    answers: Ray is asked to end. One that does not answer is left as it is, and so should one be
    in which a sweep was interrupted: it may take long, or fail. This process must end soon then.

    Raises:
        Interrupted: a signal has come meanwhile; it is left all the same.
    """
    if not address:
        if answers:
            private_ray.stop()
        else:
            private_ray.kill()
        remove_abandoned()  # Ray has killed the supervisors of the workers
    elif answers:
        with suppress(TimeoutError):
            ray_thread.call(ray.shutdown, _LEAVE_S)
    else:
        ray_thread.abandon()  # the cluster ends the tasks of this process with it


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
        ray_thread.call(
            partial(ray.init, address=address, runtime_env=shipped, **private_ray.QUIET)
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"no Ray cluster answers there: {reason}", address) from None
