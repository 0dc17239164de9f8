"""The fork server: a warm, clean process that forks the processes in which steps run.

It has imported what steps need and has neither threads nor state of a step, so a fork of it is as
good as a new interpreter and costs milliseconds. It becomes the parent of whatever its
children leave behind (PR_SET_CHILD_SUBREAPER), so that this can be found and ended.
`engine.workers.client` is the other side.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib.util
import os
import pickle
import resource
import select
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from farm.engine.workers.processes import adopt_orphans, end_children, end_with_parent

if TYPE_CHECKING:
    from farm.plan.steps import Step

PRELOADED = (
    "numpy",
    "numpy.ma",  # of percentiles
    "farm.engine.workers.perform",
    *(f"farm.stages.{name}" for name in ("prepare", "build", "verify", "evaluate", "measure")),
)
"""Modules that are imported before the first fork: those that start no thread."""

SLOW_IMPORTS = {
    "torch": ("torch",),
    "mmdet": ("torch", "mmcv", "mmdet", "farm.sources.mmdet.detector"),
}
"""What takes seconds to import and starts no thread, by the package in a step's toolchain: the last
module is imported, if all of them are installed and not a user's own code. Each imports the ones
before it, too."""

_LIMITS = sorted({value for name, value in vars(resource).items() if name.startswith("RLIMIT_")})

MOST_BYTES = 1 << 12
"""Of one message between the server and its client."""

_THREADLESS = {
    "OPENBLAS_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",  # of pyarrow, which pandas imports
}
"""Environment variables by which libraries start no threads, which would not survive a fork."""


@dataclass(frozen=True)
class Work:
    """A step for a worker process.

    folder: its working folder in the store. current: the current folder. changes: of environment
    variables since the server was started; None removes one. seconds: its time limit.
    memory_bytes: how much memory it may ask for; None for no such limit. gpu_share: as of `Limit`.
    """

    step: Step
    root: str
    folder: str  # no path: each version of Python pickles paths by another module's name
    current: str
    echo: bool
    changes: tuple[tuple[str, str | None], ...]
    seconds: float
    memory_bytes: int | None
    gpu_share: float

    @property
    def outcome_file(self) -> Path:
        """Where the outcome is written if the step's code has closed the connection."""
        return Path(f"{self.folder}.outcome")


def slow_import(step: Step) -> str:
    """Return the last package of `SLOW_IMPORTS` that a step uses; empty where it uses none."""
    used = dict(step.toolchain)
    return next((name for name in reversed(SLOW_IMPORTS) if name in used), "")


def serve(descriptor: int, parent: int, bound: bool, temporary: str, package: str) -> NoReturn:
    """Fork a child for each connection that comes over the socket, and report each child's end.

    descriptor: of the socket. parent: the process id of the client. bound: let the kernel end this
    process with its parent's thread; it ends by itself when the socket is closed. temporary: a
    folder that is removed when this process ends. package: of `SLOW_IMPORTS`, for all children.
    Messages to the client are pickled tuples: `("forked", pid)` and `("ended", pid, exit code)`,
    negative for a signal.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, [])  # the client's starter may have blocked some
    signal.signal(signal.SIGTERM, lambda *_: _end_all(temporary))
    if bound:
        end_with_parent(parent, signal.SIGTERM)
    adopt_orphans()
    _preload(package)
    control, (wake, woken) = socket.socket(fileno=descriptor), os.pipe()
    for number in (wake, woken):
        os.set_blocking(number, False)
    children = set[int]()
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    try:
        control.send(pickle.dumps(("ready", os.getpid())))
        while True:
            sources: list[Any] = [control, wake]
            readable, _, _ = select.select(sources, [], [])
            if wake in readable:
                with suppress(BlockingIOError):
                    os.read(wake, 1 << 16)
            _report_ended(control, children)
            if control in readable:
                message, received, _, _ = socket.recv_fds(control, MOST_BYTES, 1)
                if not message:
                    break
                children.add(_fork(control, wake, woken, received[0], message.decode()))
    except OSError:  # the client has ended, or there is no room for another process
        sys.excepthook(*sys.exc_info())
    _end_all(temporary)


def _preload(package: str) -> None:
    added = {name: value for name, value in _THREADLESS.items() if name not in os.environ}
    os.environ.update(added)
    for name in PRELOADED:
        with suppress(ImportError):  # the step that needs it says what is missing
            importlib.import_module(name)
    with suppress(Exception):  # of another package: the step that needs it says so
        from farm import catalog, store
        from farm.plan.machines.placement import cpu_model

        store.warm_up()
        cpu_model()  # which reads what the kernel says of each core
        for registry in (catalog.RUNTIMES, catalog.SOURCES, catalog.DATASETS, catalog.EXTRA_STAGES):
            len(registry)
    if package:
        with suppress(Exception):  # as above; a package may raise anything
            _import_slowly(*SLOW_IMPORTS[package])
    for name in added:
        del os.environ[name]
    gc.collect()
    gc.freeze()  # so that a child's collections do not copy these pages


def _import_slowly(*modules: str) -> None:
    """Import the last module. Of a user's own code `check` must see which of it a model uses."""
    from farm.sources import user_code

    specs = [importlib.util.find_spec(name) for name in modules]
    origins = {user_code.origin(spec.origin or "") if spec else None for spec in specs}
    if origins <= {"installed", "farm"}:
        importlib.import_module(modules[-1])


def _report_ended(control: socket.socket, children: set[int]) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        if pid in children:  # else it is what a child has left behind
            children.remove(pid)
            control.send(pickle.dumps(("ended", pid, os.waitstatus_to_exitcode(status))))


def _fork(control: socket.socket, wake: int, woken: int, connection: int, temporary: str) -> int:
    server, pid = os.getpid(), os.fork()
    if pid:
        os.close(connection)
        control.send(pickle.dumps(("forked", pid)))
        return pid
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        control.close()
        os.close(wake)
        os.close(woken)
        os.setsid()  # Ctrl-C is the client's to handle
        end_with_parent(server, signal.SIGKILL)
        _work(connection, temporary)
    except BaseException:  # a step's own errors do not come here
        sys.excepthook(*sys.exc_info())
    os._exit(1)


def _work(descriptor: int, temporary: str) -> NoReturn:
    """Perform the steps that come over the connection, until it is closed."""
    os.environ["TMPDIR"], tempfile.tempdir = temporary, None
    faulthandler.enable()
    connection, identity = Connection(descriptor), os.fstat(descriptor).st_ino
    variables, put_back = dict(os.environ), _process_state()
    while True:
        try:
            work: Work = pickle.loads(connection.recv_bytes())
        except EOFError:
            os._exit(0)  # without the threads and exit handlers of the steps' code
        put_back()
        _prepare(work, variables)
        answer = pickle.dumps(_perform(work))
        try:
            if os.fstat(descriptor).st_ino != identity:  # another file has this number now
                raise OSError("the connection was closed")
            connection.send_bytes(answer)
        except OSError:
            work.outcome_file.write_bytes(answer)
            os._exit(0)


def _process_state() -> Callable[[], None]:
    """Return a function that puts back what a step's code may change of this process: the umask,
    limits (which only root can raise again), and what signals do."""
    os.umask(mask := os.umask(0))
    limits = {number: resource.getrlimit(number) for number in _LIMITS}
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}

    def put_back() -> None:
        os.umask(mask)
        for number, limit in limits.items():
            if resource.getrlimit(number) != limit:
                with suppress(ValueError, OSError):
                    resource.setrlimit(number, limit)
        for number, handler in handlers.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    return put_back


def _prepare(work: Work, variables: Mapping[str, str]) -> None:
    """Set the current folder, the environment variables and the memory limit as the step's are."""
    changed = {name: value for name, value in work.changes if value is not None}
    wanted = {**variables, **changed}
    for name, value in work.changes:
        if value is None:
            wanted.pop(name, None)
    if wanted != dict(os.environ):
        os.environ.clear()
        os.environ.update(wanted)
    with suppress(OSError):  # it is no more: what needs it says so
        os.chdir(work.current)
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    with suppress(ValueError, OSError):  # above the hard limit, which then holds
        resource.setrlimit(resource.RLIMIT_DATA, (work.memory_bytes or hard, hard))


def _perform(work: Work) -> Any:
    from farm.engine.workers.perform import perform

    # The log then says where the step was when it is killed.
    faulthandler.dump_traceback_later(max(work.seconds - 1, work.seconds * 0.9, 0.01))
    try:
        return perform(work.step, work.root, work.echo, Path(work.folder), work.gpu_share)
    finally:
        faulthandler.cancel_dump_traceback_later()


def _end_all(temporary: str) -> NoReturn:
    """End with all children, and with the folder that a client which was killed cannot remove."""
    end_children()
    shutil.rmtree(temporary, ignore_errors=True)
    os._exit(0)
