"""An S3 server behind a proxy, in which results lie that the nodes share no folder for."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from contextlib import ExitStack

from faults import Proxy
from object_stores import S3, served


class Service:
    """The server, which is started when it is wanted first, and its proxy, whose port is known
    before.

    published: the paths of the records that were put, in their order.
    """

    def __init__(self) -> None:
        self.published: list[str] = []
        self._proxy, self._stack = Proxy(), ExitStack()
        self._server: S3 | None = None
        self._proxy.answered = self._note
        self.well()

    @property
    def variables(self) -> dict[str, str]:
        """How the environment names the service: by its proxy."""
        return S3(self._proxy.port).variables

    def bucket(self) -> str:
        """Make a bucket of a service that is well, and return its name."""
        self.well()
        if self._server is None:
            self._server = self._stack.enter_context(served())
            self._proxy.server = self._server.port
        return self._server.bucket()

    def fail(self, faults: Sequence[str], share: float, rng: random.Random, slow_s: float) -> None:
        """Do one of these (see `faults.Rule`) to a share of the requests, until it is well again.

        slow_s: how much later an answer arrives that is slow.
        """
        lock, own = threading.Lock(), random.Random(rng.random())

        def rule(method: str, path: str, before: int) -> str:
            with lock:
                return own.choice(faults) if own.random() < share else ""

        self._proxy.slow_s, self._proxy.rule, self.ill = slow_s, rule, True

    def well(self) -> None:
        """Answer every request again."""
        self._proxy.rule, self.ill = lambda method, path, before: "", False

    def close(self) -> None:
        """End the proxy and the server."""
        self._proxy.close()
        self._stack.close()

    def _note(self, method: str, path: str, status: int) -> None:
        if method == "PUT" and status == 200 and path.endswith("/record.json"):
            self.published.append(path)
