"""The nodes of a cluster: which are there, have reported what they are, and are in no doubt."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray

from farm import interrupts
from farm.engine.cluster.reports import Node, node_of, request_report, visible_token
from farm.errors import ClusterLost
from farm.failures import in_one_line

if TYPE_CHECKING:
    from farm.plan.steps import Step
    from farm.store import Store

log = logging.getLogger(__name__)

_LOOK_S = 1.0
"""How often the cluster is asked which nodes it has, in seconds."""

_GONE_S = 3.0
"""How long Ray may take to say that the steps of a node which is gone are lost, in seconds."""

_REPORT_S = 120.0
"""How long the nodes of the start may take to report, in seconds: Ray sends them the farm first."""

_END_S = 2.0
"""How long the thread that asks may take to end, in seconds."""

_SILENT_S = 40.0
"""After how many seconds without an answer the cluster is lost; Ray ends this process after 60."""


@dataclass(frozen=True)
class _Asked:
    """A node that has not reported yet. found: what Ray says of it. packages: those asked for."""

    found: Mapping[str, Any]
    packages: frozenset[str]
    report: Any


class Nodes:
    """The nodes that are alive and have reported what they are.

    A thread asks the cluster every second. So nobody else waits for a head or a node that does not
    answer: its silence is all that they see. A node reports once, and again if other packages
    matter or if it is in doubt.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._packages = frozenset[str]()
        self._known: Mapping[str, Node] = {}  # is replaced and never changed
        self._listed: tuple[Mapping[str, Node], tuple[Node, ...]] = self._known, ()
        self._asked: dict[str, _Asked] = {}
        self._own, self._alive, self._left = "", frozenset[str](), dict[str, float]()
        # Rounds of the thread: those that are over, and those after which the last `look` is done.
        self._rounds, self._wanted, self._answered = 0, 0, time.monotonic()
        self._lock, self._news, self._ends = threading.Lock(), threading.Event(), threading.Event()
        self._token = ExitStack()
        self._thread: threading.Thread | None = None

    def __iter__(self) -> Iterator[Node]:
        return iter(self._known.values())

    @property
    def known(self) -> tuple[Node, ...]:
        """Return all of them; the same object as long as nothing has changed."""
        known = self._known
        if self._listed[0] is not known:
            self._listed = known, tuple(known.values())
        return self._listed[1]

    def learn_for(self, steps: Iterable[Step]) -> None:
        """Let every node report what these steps need to know of it, and wait for that.

        Raises:
            ClusterLost: the cluster does not answer.
            Interrupted: the user or the system ends the run.
        """
        own = (step for step in steps if step.environment is None)
        packages = {name for step in own for name, _ in step.toolchain}
        with self._lock:
            if not packages <= self._packages:
                self._packages |= packages
                self._known, self._asked = {}, {}
        if self._thread is None:
            self._own = ray.get_runtime_context().get_node_id()
            self._alive = frozenset({self._own})
            folder = self._token.enter_context(visible_token(self._store))
            self._thread = threading.Thread(target=self._run, args=(folder,), name="nodes")
            self._thread.daemon = True
            self._thread.start()
        self.settle(_REPORT_S)

    def settle(self, wait_s: float) -> None:
        """Wait until all nodes that are there now have reported, at most so many seconds.

        Raises:
            ClusterLost: the cluster does not answer.
            Interrupted: the user or the system ends the run.
        """
        until = time.monotonic() + wait_s
        self.look()
        while not (self.settled and self._known):
            interrupts.check()
            self.require_cluster()
            if time.monotonic() > until:
                hosts = [one.found.get("NodeManagerHostname", "?") for one in self._asked.values()]
                log.warning(f"No answer from {', '.join(hosts) or 'any node'}; going on without.")
                return
            time.sleep(0.01)

    def look(self) -> None:
        """Let the cluster be asked at once."""
        self._wanted = self._rounds + 2  # the round that is under way may have begun before
        self._news.set()

    @property
    def settled(self) -> bool:
        """Whether the nodes that were there at the last `look` have reported."""
        return self._rounds >= self._wanted and not self._asked

    def are_gone(self, nodes: Iterable[str]) -> set[str]:
        """Return those that have not been there for some seconds, in which Ray itself may say so.

        It never does of steps that wait on a node which hangs.
        """
        now = time.monotonic()
        return {one for one in nodes if now - self._left.get(one, now) > _GONE_S}

    def require_cluster(self) -> None:
        """Raises ClusterLost if the cluster has not answered for a long time, or the node is gone
        through which this process submits steps: the cluster answers then, and runs none."""
        silent = time.monotonic() - self._answered > _SILENT_S
        if self._thread is not None and (silent or self.are_gone({self._own})):
            raise ClusterLost

    def doubt(self, node: str | None) -> None:
        """Use a node (None: any) no more until it has reported again: something was lost there."""
        with self._lock:
            self._known = {key: one for key, one in self._known.items() if node not in (None, key)}
            self._asked = {key: one for key, one in self._asked.items() if node not in (None, key)}
        self.look()

    def close(self) -> bool:
        """Ask no more; return whether the thread has ended, and not waits for the cluster."""
        self._ends.set()
        self._news.set()
        if self._thread is not None and not interrupts.came():
            self._thread.join(_END_S)
        self._token.close()
        return self._thread is None or not self._thread.is_alive()

    def _run(self, token: str) -> None:
        while not self._ends.is_set() and ray.is_initialized():
            self._news.clear()
            try:
                self._look(token)
            except Exception as error:  # of Ray, which is to be asked again
                log.debug("the nodes are not known: %s", in_one_line(error))
            self._rounds += 1
            if self._asked:
                reports = [one.report for one in list(self._asked.values())]
                ray.wait(reports, num_returns=1, timeout=_LOOK_S / 10)
            else:
                self._news.wait(_LOOK_S)

    def _look(self, token: str) -> None:
        """Find nodes that have joined, are gone, or have reported."""
        found = ray.nodes()  # type: ignore[no-untyped-call]
        alive = {one["NodeID"]: one for one in found if one["Alive"]}
        with self._lock:
            self._answered = time.monotonic()
            for key in self._alive - alive.keys():
                self._left[key] = self._answered
            self._alive = frozenset(alive)
            if not self._known.keys() <= alive.keys():
                self._known = {key: one for key, one in self._known.items() if key in alive}
            self._asked = {key: one for key, one in self._asked.items() if key in alive}
            packages, unasked = (
                self._packages,
                alive.keys() - self._known.keys() - self._asked.keys(),
            )
        for key in unasked:
            report = request_report(key, sorted(packages), token)
            self._asked[key] = _Asked(alive[key], packages, report)
        for key, asked in list(self._asked.items()):
            if ray.wait([asked.report], timeout=0)[0]:
                self._note(key, asked)

    def _note(self, key: str, asked: _Asked) -> None:
        try:
            node = node_of(asked.found, *ray.get(asked.report, timeout=_LOOK_S))
        except ray.exceptions.RayError as error:
            log.debug("node %s has not reported: %s", key[:12], in_one_line(error))
            node = None  # it is asked again, if it is still there
        with self._lock:
            if self._asked.get(key) is not asked:
                return  # it is in doubt since
            del self._asked[key]
            if node is not None and asked.packages == self._packages:
                self._known = {**self._known, key: node}
                log.debug("node %s: %s", key[:12], node.machine)
