"""Engines of other environments that take turns, each environment in a process of its own.

Its process opens the engines and times their runs, so that what passes between the processes is in
no latency.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm import environments
from farm.errors import FarmError, StepFailed, TransientFailure
from farm.failures import class_name, out_of_memory, text_of
from farm.measuring.sampling import no_collection
from farm.stages import Context
from farm.stages.turns import Timed, open_here
from farm.store import Store

if TYPE_CHECKING:
    from farm.specs import Entrant, Environment

_END_S = 10.0
"""How long a process may take to close its engines, in seconds; then it is killed."""

_SERVE = "from farm.stages.hosts import serve; serve({fd}, {threads})"


class Host:
    """A process in an environment. Close it after its engines.

    Raises:
        EnvironmentFailed: the environment cannot be made.
    """

    def __init__(self, environment: Environment, threads: int) -> None:
        self.name = environment.name
        ours, theirs = socket.socketpair()
        with ours, theirs:
            code = _SERVE.format(fd=theirs.fileno(), threads=threads)
            self._process = subprocess.Popen(
                environments.command(environment, code),
                stdin=subprocess.DEVNULL,
                env=environments.variables(os.environ),
                pass_fds=[theirs.fileno()],
            )
            self._connection = Connection(ours.detach())

    def ask(self, *request: Any) -> Any:
        """Send a request and return the answer.

        Raises:
            FarmError: what the process has raised, or why it ended.
        """
        try:
            self._connection.send(request)
            error, answer = self._connection.recv()
        except (EOFError, OSError):
            self.close()
            raise _ended(self.name, self._process.returncode) from None
        if error is not None:
            raise error
        return answer

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Hosted:
    """An open engine of another environment that takes turns; see `turns.Timed`."""

    def __init__(self, host: Host, id: str, seconds: float) -> None:
        self._host, self._id = host, id
        self.seconds, self.samples = seconds, list[float]()

    def __call__(self) -> float:
        """Take a turn, and return the median time of a run in ms."""
        median, own = self._host.ask("turn", self._id)
        self.samples += own
        return float(median)

    def fit(self, fastest_s: float) -> None:
        """Choose the runs of a turn."""
        self._host.ask("fit", self._id, fastest_s)


class Hosts:
    """The processes of a comparison, one for each environment; a context manager."""

    def __init__(self, context: Context, threads: int) -> None:
        self._context, self._threads = context, threads
        self._hosts: dict[str, Host] = {}

    def __enter__(self) -> Hosts:
        return self

    def __exit__(self, *_: object) -> None:
        for host in self._hosts.values():
            host.close()

    @contextmanager
    def open(self, entrant: Entrant) -> Iterator[Hosted]:
        """Open an engine in its environment and warm it up.

        Raises:
            StepFailed: the engine cannot be opened, or its process has ended.
            TransientFailure: the environment cannot be made, or memory ran out.
        """
        assert entrant.environment is not None
        host = self._host(entrant.environment)
        for ref in (entrant.prepared, entrant.engine.built):
            if ref is not None:  # they are read by the other process, and are this step's parents
                self._context.artifact(ref)
        store, folder = self._context.store.root, self._context.folder
        yield Hosted(host, entrant.id, host.ask("open", entrant, str(store), str(folder)))
        with suppress(FarmError):  # it has ended
            host.ask("close", entrant.id)

    def _host(self, environment: Environment) -> Host:
        found = self._hosts.get(environment.digest)
        if found is None:
            found = self._hosts[environment.digest] = Host(environment, self._threads)
        return found


def _ended(name: str, code: int) -> FarmError:
    """Why a process that has ended on its own cannot answer."""
    if code == -signal.SIGKILL:  # the system ends what uses too much memory so
        return TransientFailure(f"the process of {name} was killed by signal 9 (Killed)")
    return StepFailed(f"the process of {name} ended with exit code {code}")


def serve(fd: int, threads: int) -> None:
    """Answer the requests that come on a connection, until it is closed."""
    engines = _Engines(threads)
    with Connection(fd) as connection, no_collection(), suppress(EOFError, ConnectionError):
        while True:
            name, *values = connection.recv()
            answer: tuple[FarmError | None, Any]
            try:
                answer = None, getattr(engines, name)(*values)
            except Exception as error:  # a runtime raises its own errors
                traceback.print_exc()
                answer = _portable(error), None
            connection.send(answer)


def _portable(error: Exception) -> FarmError:
    """An error that the other process can read, of the same kind."""
    if isinstance(error, FarmError):
        return error
    kind = TransientFailure if out_of_memory(error) else StepFailed
    return kind(f"{class_name(error)}: {text_of(error)}")


class _Engines:
    """The open engines of a process, and what it can be asked for."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._open: dict[str, tuple[Timed, ExitStack]] = {}

    def open(self, entrant: Entrant, root: str, folder: str) -> float:
        """Return the seconds of a run."""
        context = Context(Store(root), Path(folder), self._threads)
        with ExitStack() as stack:
            timed = stack.enter_context(open_here(entrant, context, self._threads))
            self._open[entrant.id] = timed, stack.pop_all()
        return timed.seconds

    def fit(self, id: str, fastest_s: float) -> None:
        self._open[id][0].fit(fastest_s)

    def turn(self, id: str) -> tuple[float, list[float]]:
        """Return the median time of a run in ms, and that of each."""
        timed = self._open[id][0]
        timed.samples.clear()
        return timed(), timed.samples

    def close(self, id: str) -> None:
        self._open.pop(id)[1].close()
