"""Turn Ctrl-C and SIGTERM into an exception that differs from those that a model's code raises."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

_EXIT_S = 8.0
"""How long threads and exit functions may delay the end of a finished process, in seconds."""

_MOST_S = 60.0
"""How long an interrupted program may take to end, in seconds; then it is ended as it is."""


class Interrupted(KeyboardInterrupt):
    """The user or the system ends the farm; a plain KeyboardInterrupt comes from a model's code."""


_interrupted = False  # a signal has come
_deferrals, _deferred = 0, False  # blocks of `deferred` that are under way; a signal came in one
_is_program = False  # this process ends by `to_the_end`
_at_once = False  # it ends without Python's and the libraries' own clearing up


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


@contextmanager
def deferred() -> Iterator[None]:
    """Let signals wait for the end of the block, for what must be done as a whole.

    Raises:
        Interrupted: at the end, if a signal has come meanwhile.
    """
    global _deferrals, _deferred
    _deferrals += 1
    try:
        yield
    finally:
        _deferrals -= 1
    if _deferred and not _deferrals:
        _deferred = False
        raise Interrupted


def came() -> bool:
    """Return whether a signal has come since `forget`."""
    return _interrupted


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
    global _interrupted, _deferred
    _interrupted = _deferred = False


def end_at_once() -> None:
    """Let the program end without the libraries' own clearing up: one of them cannot do it."""
    global _at_once
    _at_once = True


def to_the_end(main: Callable[[], int | None]) -> None:
    """Run a program's `main` and end the process with its exit code.

    The code is 130 if it is interrupted, also while it starts. What has ended is not interrupted.

    Raises:
        SystemExit: always.
    """
    global _is_program
    _is_program = True
    _open_streams()
    ends = list[Any]()
    # Registered first, it is called last: after what libraries have registered.
    atexit.register(_leave, ends)
    install(signal.SIGTERM)
    install(signal.SIGINT)
    try:
        code: Any = main() or 0
    except SystemExit as end:
        code = end.code
    except Interrupted:
        print("farm: interrupted", file=sys.stderr)
        code = 130
    # It ends already: another Ctrl-C would only leave temporary files.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if code == 130 or _at_once:
        ends.append(code)
    if ends or any(not thread.daemon for thread in threading.enumerate()[1:]):
        _exit_in(_EXIT_S, code)
    sys.exit(code)


def _open_streams() -> None:
    """Open the null device in place of standard streams that are closed (`2>&-`), so that no other
    file gets their numbers and is written to as if it were one."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the least number that is free
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115


def _leave(ends: list[Any]) -> None:
    """End the process here, before libraries that were interrupted somewhere clear up: Ray for
    instance may crash it then."""
    for code in ends:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):  # closed, or never open
                stream.flush()
        _exit(code)


def _exit_in(seconds: float, code: Any) -> None:
    def wait_and_exit() -> None:
        time.sleep(seconds)
        _exit(code)

    threading.Thread(target=wait_and_exit, daemon=True).start()


def _exit(code: Any) -> None:
    os._exit(code if isinstance(code, int) else code is not None)


def _raise(*_: Any) -> None:
    """The handler. Once `Interrupted` is on its way, another signal changes nothing: it would cut
    off what clears up."""
    global _interrupted, _deferred
    signal.alarm(0)  # Ray's handler, if it was there first, lets that abort the process
    if _is_program and not _interrupted:
        _exit_in(_MOST_S, 130)
    _interrupted = True
    if _deferrals:
        _deferred = True
    elif not _is_handled(sys.exc_info()[1]):
        raise Interrupted


def _is_handled(error: BaseException | None) -> bool:
    """Whether an interruption is what is being handled, or what led to that."""
    while error is not None and not isinstance(error, Interrupted):
        error = error.__context__
    return error is not None
