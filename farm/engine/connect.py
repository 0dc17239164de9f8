"""Join a Ray cluster or start one, without Ray's own signal handlers and public token."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import signal
import socket
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import ray
from ray._common.utils import get_default_ray_temp_dir

import farm
from farm.errors import FarmError, InputError, class_name, text_of
from farm.interrupts import Interrupted
from farm.plan.placement import cores

log = logging.getLogger(__name__)

_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # Ray sets it in a job's entry point
_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}


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
            with _private_token():
                _start()
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


@contextmanager
def _private_token() -> Iterator[None]:
    """Make `~/.ray/auth_token` readable by its owner alone.

    Ray writes it for everybody to read, but keeps the mode of a file that exists already.
    """
    path = Path.home() / ".ray" / "auth_token"
    with suppress(OSError):  # no home folder to write in: Ray itself reports that
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600, exist_ok=True)
        path.chmod(stat.S_IMODE(path.stat().st_mode) & ~0o077)
    try:
        yield
    finally:
        with suppress(OSError):
            if path.stat().st_size == 0:  # Ray has written no token
                path.unlink()


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
        ray.init(address=address, runtime_env=shipped, **_QUIET)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"no Ray cluster answers there: {reason}", address) from None


def _start() -> None:
    # An interruption while Ray starts leaves no node that could be asked; Ray itself ends what it
    # has started when this process ends, by a function that it registers after this one.
    atexit.register(_remove_sessions)
    try:
        ray.init(
            address="local",
            num_cpus=cores(),
            include_dashboard=False,
            object_store_memory=100 << 20,  # artifacts are in the store, so no object is large
            _node_ip_address="127.0.0.1",
            **_QUIET,
        )
    except (OSError, ValueError, RuntimeError, TimeoutError) as error:
        disconnect()
        reason = text_of(error).strip().partition("\n")[0]
        raise FarmError(
            f"Ray cannot be started on this machine: {class_name(error)}: {reason}; `farm doctor`"
            " says more, and --executor inline does without Ray"
        ) from error


def disconnect() -> None:
    """End the Ray that `connect` has started, and remove the folder of its session."""
    folder = _session_folder()
    ray.shutdown()
    if folder is not None:
        _remove(folder)


def _remove(folder: Path) -> None:
    for _ in range(20):  # its last processes may still be writing their logs
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            break
        time.sleep(0.05)
    latest = folder.parent / "session_latest"
    if latest.is_symlink() and not latest.exists():
        latest.unlink(missing_ok=True)


def _remove_sessions() -> None:
    """Remove the folders of all sessions that this process has begun; their names have its id."""
    temporary: str = get_default_ray_temp_dir()  # type: ignore[no-untyped-call]
    for folder in Path(temporary).glob(f"session_*_{os.getpid()}"):
        _remove(folder)


def _session_folder() -> Path | None:
    """The folder in which a Ray of this process keeps logs and sockets."""
    node = getattr(ray._private.worker, "_global_node", None)
    if node is None or not node.is_head():  # else it is another program's Ray
        return None
    return Path(node.get_session_dir_path())
