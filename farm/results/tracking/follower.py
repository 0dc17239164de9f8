"""Log a sweep to MLflow while it runs: a process of its own follows the leaderboard's files.

So neither the import of MLflow (2 s of CPU and 200 MB) nor a server that answers slowly costs the
sweep anything: the process has the lowest priority, and is killed where nobody can wait for it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from farm import interrupts
from farm.errors import InputError
from farm.failures import in_one_line
from farm.results import leaderboard, tracking
from farm.results.kept import matrices
from farm.results.tables.escaping import shown, without_secrets
from farm.results.tracking.artifacts import tail
from farm.results.tracking.evidence import dataset_of, evidence_of, log_of, small_onnx_of
from farm.results.tracking.runs import ONNX
from farm.store.opening import open_store
from farm.terminal import plain

if TYPE_CHECKING:
    from farm.results.columns import Row
    from farm.results.tracking.runs import Dataset
    from farm.store import Store

log = logging.getLogger(__name__)

_PAUSE_S = 5.0
"""Between two updates while the sweep runs, and ten times as long as the last one took."""

_UPDATE, _END = b"u", b"e"


class Tracker:
    """Keeps MLflow up to date with the leaderboard of a sweep, from its first update to `close`.

    Nothing here raises, waits (but for `close`) or imports MLflow; a failure is one warning.

    Args:
        place: What `--results` is called in the commands of the report; by default the folder.
    """

    def __init__(self, sweep: str, results: Path, store: Store, place: str | None = None) -> None:
        self._sweep, self._results, self._store = sweep, results, store
        self._place = place or str(results)
        self._process: subprocess.Popen[bytes] | None = None

    def update(self) -> None:
        """Say that the sweep's files of the leaderboard have rows that are new."""
        if self._process is None:
            self._start()
        self._say(_UPDATE)

    def close(self, rows: Sequence[Row], timeout_s: float | None = None) -> None:
        """Log what the sweep has in the end, `rows`, which the leaderboard's files have by now.

        timeout_s: how many seconds to wait for it, by default as long as it takes. What is not
        logged then is logged by the next run of the sweep.
        """
        try:
            with contextlib.suppress(Exception):  # the process has the same fault, and says it
                evidence = {row["cell"]: evidence_of(row, self._store) for row in rows}
                if tracking.is_logged(self._sweep, rows, evidence, self._results):
                    return
            if self._process is None:
                self._start()
            self._say(_END)
            self._wait(timeout_s)
        finally:
            self.kill()

    def kill(self) -> None:
        """End its process as it is; after `close` there is none."""
        if self._process is not None:
            self._process.kill()
            with contextlib.suppress(OSError, ValueError):
                self._process.communicate()
            self._process = None

    def _start(self) -> None:
        command = [sys.executable, "-m", "farm.results.tracking.follower"]
        command += [self._sweep, str(self._results), self._store.address, self._place]
        pipe = subprocess.PIPE
        # Signals interrupt the main thread alone.
        main = threading.current_thread() is threading.main_thread()
        try:
            # In a session of its own, Ctrl-C does not end it while it writes.
            with interrupts.deferred() if main else contextlib.nullcontext():
                self._process = subprocess.Popen(
                    command,
                    stdin=pipe,
                    stdout=pipe,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
        except OSError as error:
            log.warning(f"MLflow is not written: {in_one_line(error)}")

    def _say(self, word: bytes) -> None:
        if self._process and self._process.stdin:
            with contextlib.suppress(OSError):  # it has ended; `_wait` says why
                os.set_blocking(self._process.stdin.fileno(), False)
                os.write(self._process.stdin.fileno(), word)

    def _wait(self, timeout_s: float | None) -> None:
        if self._process is None:
            return
        try:
            told, _ = self._process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            log.warning("MLflow is not up to date; the same command run again logs the rest.")
            return
        try:
            found = json.loads(told)
            for warning in found["warnings"]:
                log.warning(plain(warning))
        except (ValueError, KeyError, TypeError):
            code = self._process.returncode
            log.warning(f"MLflow could not be written: its process ended with {code}.")


def failure(error: Exception, results: Path) -> list[str]:
    """Return what is said of a failure to log, without the secrets of the server's address."""
    uri = tracking.tracking_uri(results)
    why = without_secrets(f"{type(error).__name__}: {error}", uri)
    return [
        f"MLflow at {shown(uri)} could not be written ({why}).",
        "The leaderboard is complete; the same command run again logs it.",
    ]


def follow(sweep: str, results: Path, store: Store, place: str) -> list[str]:
    """Log the sweep's files whenever standard input has more, until it ends; return warnings.

    A failure is tried again with the next update; only that of the last one is returned. Where the
    input ends without the word for it, the sweep's process has died, and the run stays open.
    """
    handler = _Kept()
    logging.getLogger("farm").addHandler(handler)
    word, failed, pause = b"", list[str](), 0.0
    while word != _END:
        word = _next(pause)
        began = time.monotonic()
        try:
            rows = leaderboard.of_sweep(results, sweep)
            evidence = {row["cell"]: evidence_of(row, store) for row in rows}
            if rows:
                ended = word == _END
                more, last = partial(_more, store), partial(_report, rows, results, store, place)
                tracking.log_sweep(sweep, rows, evidence, results, ended, more, last)
            failed = []
        except Exception as error:  # servers and databases raise anything
            failed = failure(error, results)
        if not word:
            break
        pause = max(_PAUSE_S, 10 * (time.monotonic() - began))
    return handler.texts + failed


def _more(store: Store, row: Row, copies: bool) -> tuple[Dataset | None, dict[str, Path | str]]:
    """The data set of a cell; its log where it failed, and its ONNX file if that is small and asked
    for."""
    files = dict[str, Path | str]()
    with contextlib.suppress(OSError):
        if log := log_of(row, store):
            files[f"{row['failed_stage']}.log"] = tail(log)
        if copies and (onnx := small_onnx_of(row, store)):
            files[ONNX] = onnx
    return dataset_of(row, store), files


def _report(rows: Sequence[Row], results: Path, store: Store, place: str) -> dict[str, Path | str]:
    """The page of `farm report`, where all cells have ended and its packages are installed."""
    if any(row["status"] == "pending" for row in rows):
        return {}
    try:
        from farm.results.report.whole import by_target, report_of

        matrix_of = partial(matrices.kept_matrix, results)
        return {"report.html": report_of(by_target(rows), store, matrix_of, place)}
    except InputError as error:
        log.debug(f"MLflow has no report: {error}")
    except Exception as error:  # runs are there without it
        log.warning(f"MLflow has no report: {type(error).__name__}: {in_one_line(error)}")
    return {}


def _next(pause_s: float) -> bytes:
    """Wait for a word, and for the pause, which the word for the end cuts short."""
    until, last = time.monotonic() + pause_s, b""
    while True:
        left = max(0.0, until - time.monotonic()) if last else None
        if not select.select([0], [], [], left)[0]:
            return last
        last = os.read(0, 4096)[-1:]
        if last in (_END, b""):
            return last


class _Kept(logging.Handler):
    """Keeps warnings of the farm's, to be shown by the sweep's own process."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def _main(arguments: Sequence[str]) -> None:
    os.nice(19)  # what is measured beside it must not be disturbed
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints would fill the pipe, which is read at the end
    _, sweep, results, store, place = arguments
    warnings = follow(sweep, Path(results), open_store(store), place)
    with told:
        json.dump({"warnings": warnings}, told)


if __name__ == "__main__":
    _main(sys.argv)
