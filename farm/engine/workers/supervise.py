"""Run steps in worker processes, and say how each ended, whatever its code does to the process."""

from __future__ import annotations

import atexit
import math
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from farm.engine.claims import remote
from farm.engine.status import Outcome, StepStatus
from farm.engine.workers.client import Ended, ForkServer, Worker
from farm.engine.workers.ends import KILLED, outcome_of_end
from farm.engine.workers.forkserver import Work, slow_import
from farm.engine.workers.hosts import share_host
from farm.engine.workers.perform import outcome_of, store_at
from farm.errors import InputError, TransientFailure
from farm.failures import FailureKind
from farm.specs import refs_of
from farm.store.objects import is_url
from farm.store.opening import open_store
from farm.store.place import NONE_KNOWN

if TYPE_CHECKING:
    from farm.engine.workers.limits import Limit
    from farm.plan.steps import Step
    from farm.specs import Environment, Ref
    from farm.store import Record, Store
    from farm.store.remote.store import RemoteStore

TIME_IS_UP = "the time was up"

_Kind = tuple[str, tuple[str, ...], str]
"""The digest of an environment, where modules are found, and the package that is imported before
steps run."""

_OF_THREADS = "OMP_NUM_THREADS"
"""Ray sets it for each task to its cores; stages tell libraries how many threads to use."""

_MOST_SERVERS = 8
"""How many fork servers are kept: each has imported a hundred megabytes."""

_CRASHES = 2
"""How many workers a step may crash: an earlier step of the first one may have been the cause."""


@cache
def shared_supervisor(echo: bool = False) -> Supervisor:
    """Return the supervisor of this process, which ends with it."""
    supervisor = Supervisor(echo)
    atexit.register(supervisor.close)
    return supervisor


class Supervisor:
    """Runs steps in worker processes, one at a time.

    A worker is kept for the next step in the same environment. A step that must be alone,
    or whose code is a user's, has a new one, and so has the next step after a failure, or after a
    step that has left processes running.

    echo: show the steps' logs on the terminal, too.
    """

    def __init__(self, echo: bool = False) -> None:
        self._echo = echo
        self._servers: dict[_Kind, tuple[ForkServer, dict[str, str]]] = {}
        self._kept: dict[_Kind, Worker] = {}

    def run(
        self,
        step: Step,
        root: str,
        limit: Limit,
        until: float | None = None,
        known: Mapping[Ref, str] = NONE_KNOWN,
    ) -> Outcome:
        """Run the step unless it is in the store, and return how it ended.

        An object store is not asked again whether it has the step: who has claimed it has asked.

        root: the store's address. known: the digests of records that it reads, as far as the driver
        knows them. until: the time, by `time.monotonic`, at which the run ends: the
        step is then SKIPPED.

        Raises:
            Interrupted: the user or the system ends this process.
        """
        started = time.perf_counter()
        try:
            store = _remote_at(root) if is_url(root) else store_at(root)
        except InputError as error:  # of this node: it lacks a package, or credentials
            kind = FailureKind.IO
            return Outcome(step.key, StepStatus.TRANSIENT, str(error), kind=kind)
        try:
            if not is_url(root) and store.record(step.ref):
                return Outcome(step.key, StepStatus.DONE)
            # What comes and goes by the network must not disturb a measurement either.
            with (
                share_host(step.needs.exclusive),
                store.on_this_node(step.ref, refs_of(step.inputs), known) as here,
            ):
                outcome = self._supervised(step, here, limit, until)
            if outcome.status is StepStatus.DONE and is_url(root):
                outcome = replace(outcome, record=_put(store, step))
        except Exception as error:  # no room for the folder, or no process can be started
            outcome = outcome_of(step, store, None, error, 0.0)
        return replace(outcome, seconds=time.perf_counter() - started)

    def close(self) -> None:
        """End all processes."""
        for worker in self._kept.values():
            worker.close()
        for server, _ in self._servers.values():
            server.close()
        self._kept, self._servers = {}, {}

    def _supervised(self, step: Step, store: Store, limit: Limit, until: float | None) -> Outcome:
        for remaining in reversed(range(_CRASHES)):
            left = math.inf if until is None else until - time.monotonic()
            seconds = min(limit.seconds, left)
            if seconds <= 0:
                break
            with _work_folder(store, step) as folder:
                end = self._perform(step, store, folder, replace(limit, seconds=seconds))
                if isinstance(end, Outcome):
                    return end
                if store.record(step.ref):  # it was published before
                    return Outcome(step.key, StepStatus.DONE)
                if end.limit == "time" and seconds < limit.seconds:
                    break
                if remaining and not end.limit and end.code < 0 and -end.code not in KILLED:
                    continue
                return outcome_of_end(step, store, folder, limit, end)
        return Outcome(step.key, StepStatus.SKIPPED, TIME_IS_UP)

    def _perform(self, step: Step, store: Store, folder: Path, limit: Limit) -> Outcome | Ended:
        digest = step.environment.digest if step.environment else ""
        kind = digest, tuple(sys.path), slow_import(step)
        alone = step.needs.own_process or step.needs.exclusive or bool(step.needs.accelerator)
        server, variables = self._server(kind, step.environment)
        worker = (None if alone else self._kept.pop(kind, None)) or Worker(server)
        work = Work(
            step=step,
            root=str(store.root),
            folder=str(folder),
            current=os.getcwd(),
            echo=self._echo,
            changes=_changes(variables),
            seconds=limit.seconds,
            # The drivers of GPUs ask for more than they use.
            memory_bytes=None if step.needs.accelerator else limit.memory_bytes,
            gpu_share=limit.gpu_share,
        )
        try:
            end = worker.perform(work, limit)
            done = isinstance(end, Outcome) and end.status is StepStatus.DONE
            keep = done and not alone and not worker.has_children
        except BaseException:  # an interruption
            worker.close()
            raise
        if keep:
            self._kept[kind] = worker
            server.kill_strays()
        else:
            worker.close()
        return end

    def _server(
        self, kind: _Kind, environment: Environment | None
    ) -> tuple[ForkServer, dict[str, str]]:
        """The fork server, and the environment variables that it was started with.

        Libraries read theirs when they are imported, and what has imported any is started anew.
        """
        package = kind[-1]
        if known := self._servers.pop(kind, None):
            outdated = package and {name for name, _ in _changes(known[1])} - {_OF_THREADS}
            if known[0].alive and not outdated:
                self._servers[kind] = known  # the last that was used
                return known
            self._close(kind, known[0])
        while len(self._servers) >= _MOST_SERVERS:
            oldest = next(iter(self._servers))
            self._close(oldest, self._servers.pop(oldest)[0])
        try:
            server = ForkServer(environment, self._echo, package)
        except TransientFailure:
            if not package:
                raise
            # A library that ends the process which imports it is then seen to end that of the step.
            server = ForkServer(environment, self._echo)
        self._servers[kind] = server, dict(os.environ)
        return self._servers[kind]

    def _close(self, kind: _Kind, server: ForkServer) -> None:
        if worker := self._kept.pop(kind, None):
            worker.close()
        server.close()


def _changes(variables: Mapping[str, str]) -> tuple[tuple[str, str | None], ...]:
    """The environment variables of this process that are not these; None for one that is gone."""
    now = dict(os.environ)
    if now == variables:
        return ()
    names = (name for name in variables.keys() | now.keys() if variables.get(name) != now.get(name))
    return tuple((name, now.get(name)) for name in names)


def _remote_at(root: str) -> Store:
    """The object store of an address, for one step: with it, the records of what the step reads are
    forgotten. Raises InputError."""
    return _opened(root).anew()


@cache
def _opened(root: str) -> RemoteStore:
    store = remote(open_store(root))
    assert store is not None
    return store


def _put(store: Store, step: Step) -> Record | None:
    """The record that the step has put, without its inputs; None where another's counts."""
    if step.ref not in store.known([step.ref]):
        return None
    record = store.record(step.ref)
    return replace(record, inputs={}) if record else None


@contextmanager
def _work_folder(store: Store, step: Step) -> Iterator[Path]:
    folder = store.work_folder(step.key)
    try:
        yield folder
    finally:
        if folder.exists():  # else it is the artifact now
            shutil.rmtree(folder, ignore_errors=True)
        with suppress(FileNotFoundError):
            os.unlink(f"{folder}.outcome")
