"""A server with S3's interface on this machine, for tests: moto's, with its port as first output.

Python: `python s3_server.py`. It ends with its standard input. For each line of that it prints how
many requests came since the line before, as JSON: `{"PUT /bucket/export/*/*/record.json": 2}`.
"""

from __future__ import annotations

import json
import os
import re
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

WITHOUT = "--without-conditions"
"""As services that ignore the conditions of a put."""

_DIGESTS = re.compile(r"\b([0-9a-f]{16,}|[0-9a-f]{2}(?=/))")
"""Parts of names that are digests, tokens, or the beginning of a digest."""


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_: Any) -> None:
        pass


def main() -> None:
    """Serve until the process that has started this one ends."""
    inner = DomainDispatcherApplication(create_backend_app)
    lock, counts = threading.Lock(), Counter[str]()

    def application(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if WITHOUT in sys.argv:
            environ.pop("HTTP_IF_NONE_MATCH", None)
            environ.pop("HTTP_IF_MATCH", None)
        # moto looks at a condition and then puts; a service does both as one.
        with lock:
            counts[_kind(environ)] += 1
            return list(inner(environ, start))

    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=_Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.port, flush=True)
    for _ in sys.stdin:
        with lock:
            print(json.dumps(counts), flush=True)
            counts.clear()
    os._exit(0)


def _kind(environ: dict[str, Any]) -> str:
    """The method of a request and the name of its object, without digests."""
    query = environ["QUERY_STRING"].partition("=")[0]
    name = _DIGESTS.sub("*", environ["PATH_INFO"]) + (f"?{query}" if query else "")
    return f"{environ['REQUEST_METHOD']} {name}"


if __name__ == "__main__":
    main()
