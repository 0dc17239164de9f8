"""Ctrl-C and SIGTERM, as one exception that is not mistaken for one that a model's code raises."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_LEAVE_S = 10.0
"""How long threads that a model's code has left may keep a process that is done, in seconds."""


class Interrupted(KeyboardInterrupt):
    """The user or the system ends the farm; a bare KeyboardInterrupt comes from a model's code."""


_came = False


def install(number: int) -> Any:
    """Let the signal raise `Interrupted`; returns the handler before.

    Where SIGINT is ignored (a shell's background job) or handled by somebody else, it stays so.
    """
    before = signal.getsignal(number)
    if number != signal.SIGINT or before is signal.default_int_handler:
        signal.signal(number, _raise)
    return before


@contextmanager
def handled(*numbers: int) -> Iterator[None]:
    """`install` for the length of a block; nothing where the thread is not the main one."""
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
    """Raises `Interrupted` again where a library has caught it and gone on."""
    if _came:
        raise Interrupted


def from_outside(error: BaseException) -> bool:
    """Whether someone ends this process, rather than the code that raised `error`.

    Ray ends its workers by a SystemExit with a message of its own.
    """
    return _came or isinstance(error, Interrupted) or hasattr(error, "ray_terminate_msg")


def forget() -> None:
    """A new command begins in a process that goes on after an interrupted one."""
    global _came
    _came = False


def to_the_end(main: Callable[[], int | None]) -> None:
    """Run a program's `main`, and end the process with its exit code: 130 where it is interrupted
    at any moment, its start and its end included."""
    install(signal.SIGTERM)
    install(signal.SIGINT)
    try:
        code: Any = main() or 0
    except SystemExit as end:
        code = end.code
    except Interrupted:
        print("farm: interrupted", file=sys.stderr)
        code = 130
    if any(not thread.daemon for thread in threading.enumerate()[1:]):
        threading.Thread(target=_leave, args=(code,), daemon=True).start()
    sys.exit(code)


def _leave(code: Any) -> None:
    time.sleep(_LEAVE_S)
    os._exit(code if isinstance(code, int) else code is not None)


def _raise(*_: Any) -> None:
    global _came
    _came = True
    raise Interrupted
