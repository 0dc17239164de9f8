"""A real MLflow server behind a proxy that is slow, or away, when it is told to."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from chaos.processes import Processes, wait_until

_HOP = ("connection", "keep-alive", "transfer-encoding", "host")
"""Headers that are of one connection only."""


class Tracker:
    """The server, and its proxy. pause_s: what each call takes longer; away: none is answered."""

    def __init__(self, folder: Path, variables: Mapping[str, str]) -> None:
        self.pause_s, self.away, self.calls = 0.0, False, 0
        self._processes = Processes(f"{folder.parent.name}-mlflow")  # not those of a sweep
        more = {**self._processes.variables(), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers"]
        command += ["1", "--port", str(self.port), "--backend-store-uri"]
        command += [f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder)]
        with (folder / "mlflow.log").open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=folder, env={**variables, **more}, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._proxy = proxy_of(self)
        threading.Thread(target=self._proxy.serve_forever, daemon=True).start()
        try:
            if not wait_until(self._answers, 180):
                raise RuntimeError(f"MLflow does not start: {(folder / 'mlflow.log').read_text()}")
        except BaseException:
            self.close()
            raise

    @property
    def address(self) -> str:
        """The address of the proxy."""
        return f"http://127.0.0.1:{self._proxy.server_address[1]}"

    def well(self) -> None:
        """Answer at once again."""
        self.pause_s, self.away = 0.0, False

    def close(self) -> None:
        """End the proxy and the server."""
        self._proxy.shutdown()
        self._proxy.server_close()
        self._process.terminate()
        self._process.wait()
        self._processes.kill_all()

    def _answers(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError("MLflow has ended")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def proxy_of(tracker: Tracker) -> ThreadingHTTPServer:
    """Return the proxy, which does not serve yet."""
    return _Server(("127.0.0.1", 0), _handler(tracker))


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that has left: faults end clients at any moment."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def _handler(tracker: Tracker) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            tracker.calls += 1
            time.sleep(tracker.pause_s)
            if tracker.away:
                self.close_connection = True
                return
            server = http.client.HTTPConnection("127.0.0.1", tracker.port, timeout=60)
            sent = {k: v for k, v in self.headers.items() if k.lower() not in _HOP}
            server.request(self.command, self.path, body, sent)
            answer = server.getresponse()
            content = answer.read()
            server.close()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in (*_HOP, "content-length"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = forward

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    return Handler
