"""`farm watch`: the table of a sweep as it fills; at a pipe a line for each cell that ends."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from farm.cli.progress import clock
from farm.engine.status import CellStatus
from farm.errors import InputError, nearest
from farm.run import PLACE
from farm.terminal import plain, plain_lines

if TYPE_CHECKING:
    from rich.console import Console

    from farm.cli.results import Results
    from farm.results.columns import Row

_PAUSE_S, _REMOTE_PAUSE_S = 1.0, 5.0
"""Between two looks at the files of the leaderboard, and at those in an object store."""

Show = Callable[[Sequence["Row"]], None]


def add_command(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `farm watch`."""
    parser.description = (
        "Show the table of a sweep that runs, as its cells end. It ends with the sweep; Ctrl-C ends"
        " it before, and changes nothing about the sweep."
    )
    parser.add_argument("sweep", nargs="?", help="its name (default: the one that runs there)")
    parser.add_argument("--results", metavar="PLACE", help=PLACE)
    parser.set_defaults(command=watch)


def watch(options: argparse.Namespace) -> int:
    """Show a sweep until it ends. Returns 0.

    Raises:
        InputError: there is no such sweep, or several run and none is named.
        Interrupted: the user ends it.
    """
    from rich.console import Console

    from farm.cli.results import results_of
    from farm.terminal.styles import unguarded_stdout

    results = results_of(options.results, only_read=True)
    sweep = options.sweep or _sweep_of(results)
    _require(sweep, results)
    console = Console(file=unguarded_stdout(), highlight=False)
    if console.is_terminal and not console.is_dumb_terminal:
        _as_table(sweep, results, console)
    else:
        _as_lines(sweep, results)
    return 0


def _sweep_of(results: Results) -> str:
    """The sweep that runs there, else the one that was written last. Raises InputError."""
    running = results.running()
    if len(running) > 1:
        raise InputError(f"several sweeps run here; name one of {', '.join(running)}", str(results))
    if running:
        return running[0]
    times = {sweep: time for (_, sweep), time in results.written_files().items()}
    if not times:
        raise InputError("no sweep runs or has run here; `farm run MATRIX` does", str(results))
    return max(times, key=lambda sweep: times[sweep])


def _require(sweep: str, results: Results) -> None:
    """Require a sweep to run or to have rows. Raises InputError."""
    known = {name for _, name in results.written_files()} | {*results.running()}
    if sweep not in known:
        raise InputError(f"no sweep {sweep!r}{nearest(sweep, known)}", str(results))


def _follow(sweep: str, results: Results, show: Show) -> list[Row]:
    """Show the rows of a sweep whenever they were written, until it ends; return the last ones."""
    pause = _REMOTE_PAUSE_S if results.mirror else _PAUSE_S
    rows, seen = list[dict[str, object]](), -1.0
    while True:
        running = sweep in results.running()  # asked first: the last rows are there when it ends
        # Read once more at the end: an object store has times in whole seconds.
        if (written := results.written(sweep)) != seen or not running:
            rows, seen = results.of_sweep(sweep, "*"), written
            show(rows)
        if not running:
            return rows
        time.sleep(pause)


def _as_lines(sweep: str, results: Results) -> None:
    """Print a line for each cell that has ended since the last look, then how many ended how."""
    shown = dict[str, object]()

    def show(rows: Sequence[Row]) -> None:
        ended = [row for row in rows if row["status"] != CellStatus.PENDING]
        for row in ended:
            if shown.get(row["cell"]) != (row["status"], row["measured_at"]):
                shown[row["cell"]] = row["status"], row["measured_at"]
                print(f"{clock()} {len(shown)}/{len(rows)} {_line(row)}", flush=True)

    rows = _follow(sweep, results, show)
    print(f"{clock()} sweep {plain(sweep)} has ended. {_counts(rows)}", flush=True)


def _line(row: Row) -> str:
    if row["status"] != CellStatus.OK:
        stage = f" at {row['failed_stage']}" if row["failed_stage"] else ""
        why = plain_lines(row["reason"] or "")[0]
        return plain(f"{row['cell']}: {row['status']}{stage}: {why}")
    ap, latency = row["box_ap"], row["latency_p50_ms"]
    figures = [f"box AP {ap:.4f}"] if ap is not None else []
    figures += [f"p50 {latency:.2f} ms"] if latency is not None else []
    return plain(f"{row['cell']}: {', '.join(['ok', *figures])}")


def _as_table(sweep: str, results: Results, console: Console) -> None:
    """Show the table in place, as far as it fits; at the end in full."""
    from rich.live import Live
    from rich.text import Text

    from farm.results.tables.render import render
    from farm.terminal.styles import show

    def text(rows: Sequence[Row]) -> Text:
        room = max(3, console.height - 4)
        ended = [row for row in rows if row["status"] != CellStatus.PENDING]
        lines = render(ended, "table", coloured=True).split("\n") if ended else []
        if len(lines) > room:
            lines = [*lines[: room - 1], f"... and {len(lines) - room + 1} more lines"]
        head = f"{clock()} sweep {plain(sweep)}: {_counts(rows)}"
        return Text.from_ansi("\n".join([head, "", *lines]), no_wrap=True, overflow="ellipsis")

    with Live(console=console, auto_refresh=False, transient=True) as live:
        rows = _follow(sweep, results, lambda rows: live.update(text(rows), refresh=True))
    show(render(rows, "table", coloured=True))
    print(f"\nSweep {plain(sweep)} has ended. {_counts(rows)}", flush=True)


def _counts(rows: Sequence[Row]) -> str:
    found = Counter(str(row["status"]) for row in rows)
    texts = [f"{found[state.value]} {state}" for state in CellStatus if found[state.value]]
    return f"{len(rows)} cells: {', '.join(texts)}" if rows else "no cell is known yet"
