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
`503`, `403`, `501`: the server is not asked. `lost`: it is, and the answer does not arrive. `cut`:
half of the answer arrives. `slow`: it arrives late. Else it arrives as it is."""


def _refusal(status: bytes, code: bytes) -> bytes:
    body = b"<Error><Code>%b</Code></Error>" % code
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


_REFUSALS = {
    "503": _refusal(b"503 Slow", b"SlowDown"),
    "403": _refusal(b"403 Forbidden", b"AccessDenied"),
    "501": _refusal(b"501 Not Implemented", b"NotImplemented"),
}


class Proxy:
    """Listens on a port of its own; `rule` says what happens to each request.

    server: the port of the server. slow_s: how late an answer arrives that is slow. answered: is
    called with the method, the path and the status of each answer of the server's.
    """

    def __init__(self, server: int = 0) -> None:
        self.server, self.slow_s = server, 0.5
        self.rule: Rule = lambda method, path, before: ""
        self.answered: Callable[[str, str, int], object] = lambda method, path, status: None
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
                    if refusal := _REFUSALS.get(fault):
                        client.sendall(refusal)
                    elif answer := self._asked(request):
                        self.answered(method, path, int(answer.split(b" ", 2)[1]))
                        self._give(client, answer, fault)
                        return  # the server has said that it closes the connection
                    else:
                        return
            except OSError:
                return

    def _asked(self, request: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self.server)) as server:
            server.sendall(request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            answer = b""
            while piece := server.recv(1 << 16):
                answer += piece
        return answer

    def _give(self, client: socket.socket, answer: bytes, fault: str) -> None:
        if fault == "lost":
            return
        if fault == "cut":
            head, body = answer.split(b"\r\n\r\n", 1)
            answer = head + b"\r\n\r\n" + body[: len(body) // 2]
        if fault == "slow":
            time.sleep(self.slow_s)
        client.sendall(answer)


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
