"""Worker processes: each performs one step after another, under the eye of the process that has
started it; see `engine.workers.forkserver` for their side."""

from __future__ import annotations

import os
import pickle
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import chain
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from farm import environments
from farm.engine.workers import forkserver, processes
from farm.engine.workers.limits import Limit, used_memory
from farm.engine.workers.memory import MemoryWatch
from farm.engine.workers.temporary import TemporaryFolder
from farm.errors import TransientFailure

if TYPE_CHECKING:
    from farm.engine.status import Outcome
    from farm.engine.workers.forkserver import Work
    from farm.specs import Environment

_SERVE = "from farm.engine.workers.forkserver import serve; serve{args}"

_START_S, _END_S = 120.0, 5.0
"""How long a server may take to start, and to end, in seconds."""

_WATCH_S = 0.25
"""How often the memory of a step is looked at, in seconds."""


@dataclass(frozen=True)
class Ended:
    """How a worker ended before its step did. code: its exit code, negative for a signal. limit:
    the limit for which it was killed. no_memory: memory ran out meanwhile. with_server: its fork
    server has ended, too."""

    code: int
    limit: str = ""
    no_memory: bool = False
    with_server: bool = False


class Worker:
    """A process in which steps run; one at a time."""

    def __init__(self, server: ForkServer) -> None:
        self.temporary = tempfile.mkdtemp(dir=server.temporary)
        ours, theirs = socket.socketpair()
        with theirs:
            self.pid = server.fork(theirs, self.temporary)
        self._server, self._connection = server, Connection(ours.detach())

    def perform(self, work: Work, limit: Limit) -> Outcome | Ended:
        """Perform a step, and return its outcome, or how the process ended before."""
        with suppress(OSError):  # it has ended, which is found below
            self._connection.send_bytes(pickle.dumps(work))
        until, most = time.monotonic() + limit.seconds, limit.most_bytes
        sources: list[Any] = [self._connection, self._server.control]
        memory = MemoryWatch()
        while True:
            remaining = until - time.monotonic()
            wait = min(_WATCH_S, max(remaining, 0))
            readable, _, _ = select.select(sources, [], [], wait)
            if self._connection in readable:
                if (outcome := self._answer()) is not None:
                    return outcome
                sources.remove(self._connection)  # the step's code has closed it
            if readable and (code := self._server.exit_code(self.pid, 0)) is not None:
                return self._after_end(work, code, memory)
            if remaining <= 0:
                return Ended(self.kill(), "time")
            if not readable and used_memory([self.pid, *processes.descendants(self.pid)]) > most:
                return Ended(self.kill(), "memory")
            if not readable:
                memory.look()

    def _answer(self) -> Outcome | None:
        try:
            outcome: Outcome = pickle.loads(self._connection.recv_bytes())
        except (EOFError, OSError, pickle.UnpicklingError):
            return None
        return outcome

    @property
    def has_children(self) -> bool:
        """Whether processes that a step has started still run."""
        return bool(processes.children_of(self.pid))

    def _after_end(self, work: Work, code: int, memory: MemoryWatch) -> Outcome | Ended:
        if self._connection.poll() and (outcome := self._answer()) is not None:
            return outcome
        try:
            written: Outcome = pickle.loads(work.outcome_file.read_bytes())
        except FileNotFoundError:
            return Ended(code, "", memory.ran_out, not self._server.alive)
        return written

    def kill(self) -> int:
        """Kill the process with all that it has started. Returns its exit code."""
        with suppress(OSError):  # the group is empty
            os.killpg(self.pid, signal.SIGKILL)
        processes.kill([self.pid, *processes.descendants(self.pid)])
        code = self._server.exit_code(self.pid, _END_S)
        return -signal.SIGKILL if code is None else code

    def close(self) -> None:
        """End the process, and remove what it has left."""
        self._connection.close()
        if self._server.exit_code(self.pid, 0) is None:
            self.kill()
        self._server.kill_strays()
        if not self._server.alive:  # nobody has adopted what it has left
            processes.kill(processes.with_variable("TMPDIR", self.temporary))
        shutil.rmtree(self.temporary, ignore_errors=True)


class ForkServer:
    """A fork server of this process, in one environment.

    environment: None for that of this process. echo: its children may write to the terminal.
    package: one of `forkserver.SLOW_IMPORTS` that it imports.

    Raises:
        TransientFailure: it cannot be started, or its environment cannot be made.
    """

    def __init__(self, environment: Environment | None, echo: bool, package: str = "") -> None:
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, tempfile.TemporaryFile() as output, ExitStack() as stack:
            stack.callback(self.control.close)
            # The kernel takes the end of the thread that starts a process for that of its parent.
            bound = threading.current_thread() is threading.main_thread()
            folder = TemporaryFolder()
            stack.callback(folder.remove)
            self.temporary = str(folder.path)
            args = (theirs.fileno(), os.getpid(), bound, self.temporary, package)
            command, variables = _command(environment, _SERVE.format(args=args))
            self._alive, self._exits = set[int](), dict[int, int]()
            sink = None if echo else output
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                env=variables,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
            stack.callback(self._end)
            theirs.close()  # or a server that ends at its start would not be noticed
            if self._message(_START_S) is None:
                output.seek(0)
                said = output.read().decode(errors="replace").strip().splitlines()
                why = f": {said[-1]}" if said else ""
                raise TransientFailure(f"{command[0]} cannot run steps{why}")
            self._closing = stack.pop_all()  # until here also an interruption ends the server

    @property
    def alive(self) -> bool:
        """Whether it can still fork."""
        return self._process.poll() is None

    def fork(self, connection: socket.socket, temporary: str) -> int:
        """Fork a child that serves the connection. Returns its process id."""
        socket.send_fds(self.control, [temporary.encode()], [connection.fileno()])
        while (message := self._message(_START_S)) is not None:
            if message[0] == "forked":
                self._alive.add(message[1])
                return int(message[1])
        raise TransientFailure("the fork server of the steps' processes has ended")

    def exit_code(self, pid: int, wait_s: float) -> int | None:
        """Return the exit code of a child that ends within that time; None if it does not."""
        until = time.monotonic() + wait_s
        while pid not in self._exits:
            if self._message(max(until - time.monotonic(), 0)) is None:
                gone = self._process.poll() is not None
                return -signal.SIGKILL if gone else None
        return self._exits[pid]

    def _message(self, wait_s: float) -> tuple[Any, ...] | None:
        """The next message; None if none comes in time, or the server has ended."""
        if not select.select([self.control], [], [], wait_s)[0]:
            return None
        try:
            data = self.control.recv(forkserver.MOST_BYTES)
        except OSError:
            data = b""
        if not data:
            self._process.wait()
            return None
        message: tuple[Any, ...] = pickle.loads(data)
        if message[0] == "ended":
            _, pid, code = message
            self._exits[pid] = code
            self._alive.discard(pid)
        return message

    def kill_strays(self) -> None:
        """Kill the processes that steps have left behind; the server has become their parent."""
        for _ in range(100):
            children = set(processes.children_of(self._process.pid)) - self._alive
            if not children:
                return
            processes.kill([*children, *chain.from_iterable(map(processes.descendants, children))])
            time.sleep(0.001)

    def close(self) -> None:
        """End the server with all its children."""
        self._closing.close()

    def _end(self) -> None:
        self.control.close()
        self._process.terminate()  # while it starts it does not see that
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            processes.kill([self._process.pid, *processes.descendants(self._process.pid)])
            self._process.wait()


def _command(environment: Environment | None, code: str) -> tuple[list[str], dict[str, str]]:
    """The command that runs Python code in an environment, and its variables.

    In a container Ray has started this process, too, so that the server needs nothing else.

    Raises EnvironmentFailed.
    """
    if environment is not None and not environment.image:
        return environments.command(environment, code), environments.variables(os.environ)
    # It finds the modules of this process, and none in the current folder, which `-c` adds.
    own = f"import sys; sys.path[:] = {sys.path!r}; {code}"
    return [sys.executable, "-c", own], dict(os.environ)
