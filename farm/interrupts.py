"""Turn Ctrl-C and SIGTERM into an exception that differs from those that a model's code raises."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_EXIT_S = 10.0
"""How long the threads of a model's code may delay the end of a finished process, in seconds."""


class Interrupted(KeyboardInterrupt):
    """The user or the system ends the farm; a plain KeyboardInterrupt comes from a model's code."""


_interrupted = False


def install(number: int) -> Any:
    """Let the signal raise `Interrupted`; return the previous handler.

    SIGINT keeps its handler where it is ignored, as in a shell's background job, or has another
    handler than Python's own.
    """
    before = signal.getsignal(number)
    if number != signal.SIGINT or before is signal.default_int_handler:
        signal.signal(number, _raise)
    return before


@contextmanager
def handled(*numbers: int) -> Iterator[None]:
    """Install the handlers for the length of a block; do nothing outside of the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: install(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def check() -> None:
    """Raise the exception again if a library has caught it.

    Raises:
        Interrupted: a signal has come since `forget`.
    """
    if _interrupted:
        raise Interrupted


def from_outside(error: BaseException) -> bool:
    """Return whether the user or the system ends this process, and not the code that raised
    `error`.

    Ray ends its workers by a SystemExit with a message of its own.
    """
    return _interrupted or isinstance(error, Interrupted) or hasattr(error, "ray_terminate_msg")


def forget() -> None:
    """Forget earlier signals, before the next command in the same process."""
    global _interrupted
    _interrupted = False


def to_the_end(main: Callable[[], int | None]) -> None:
    """Run a program's `main` and end the process with its exit code.

    The code is 130 if it is interrupted, also while it starts or ends.

    Raises:
        SystemExit: always.
    """
    install(signal.SIGTERM)
    install(signal.SIGINT)
    try:
        code: Any = main() or 0
    except SystemExit as end:
        code = end.code
    except Interrupted:
        print("farm: interrupted", file=sys.stderr)
        code = 130
    if code == 130:  # it ends already: another Ctrl-C would only leave temporary files
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if code == 130 or any(not thread.daemon for thread in threading.enumerate()[1:]):
        threading.Thread(target=_exit, args=(code,), daemon=True).start()
    sys.exit(code)


def _exit(code: Any) -> None:
    time.sleep(_EXIT_S)
    os._exit(code if isinstance(code, int) else code is not None)


def _raise(*_: Any) -> None:
    global _interrupted
    _interrupted = True
    raise Interrupted
