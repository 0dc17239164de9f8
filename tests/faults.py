"""A proxy on this machine between a client and a server of HTTP, which does what networks do."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

Rule = Callable[[str, str, int], str]
"""From a request's method and path, and how many of the two there were before: what happens to it.
`503`: the server is not asked. `lost`: it is, and the answer does not arrive. `cut`: half of the
answer arrives. `slow`: it arrives late. Else it arrives as it is."""

_SLOW_S = 0.5


class Proxy:
    """Listens on a port of its own; `rule` says what happens to each request."""

    def __init__(self, server: int) -> None:
        self._server = server
        self.rule: Rule = lambda method, path, before: ""
        self.seen = Counter[tuple[str, str]]()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """End it: from here on connections are refused."""
        with suppress(OSError):  # it is closed
            self._listener.shutdown(socket.SHUT_RDWR)  # also where it waits for a connection
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            try:
                while request := _message(client):
                    method, path, _ = request.split(b"\r\n", 1)[0].decode().split(" ", 2)
                    fault = self.rule(method, path, self.seen[method, path])
                    self.seen[method, path] += 1
                    if not self._answer(client, request, fault):
                        return
            except OSError:
                return

    def _answer(self, client: socket.socket, request: bytes, fault: str) -> bool:
        """Answer one request; return whether the connection stays."""
        if fault == "503":
            body = b"<Error><Code>SlowDown</Code></Error>"
            client.sendall(b"HTTP/1.1 503 Slow\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            return True
        with socket.create_connection(("127.0.0.1", self._server)) as server:
            server.sendall(request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            answer = b""
            while piece := server.recv(1 << 16):
                answer += piece
        if fault == "lost":
            return False
        if fault == "cut":
            head, body = answer.split(b"\r\n\r\n", 1)
            client.sendall(head + b"\r\n\r\n" + body[: len(body) // 2])
            return False
        if fault == "slow":
            time.sleep(_SLOW_S)
        client.sendall(answer)
        return False  # the server has said that it closes the connection


def _message(client: socket.socket) -> bytes:
    """The next request with its body; nothing at the end of the connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (piece := client.recv(1 << 16)):
            return b""
        data += piece
    head = data.split(b"\r\n\r\n", 1)[0]
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    total = len(head) + 4 + int(fields.get(b"content-length", 0))
    while len(data) < total:
        if not (piece := client.recv(1 << 16)):
            return b""
        data += piece
    return data
