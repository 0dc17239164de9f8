"""`farm report`: one HTML page of the results, or the plot of AP against latency as an image."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from farm.errors import InputError
from farm.files import atomic
from farm.run import PLACE

if TYPE_CHECKING:
    from farm.results.columns import Row

log = logging.getLogger(__name__)

_MORE = """\
The page is one file that needs no network: of each target the plot of AP against latency, the
table, failures with their logs, the images on which engines are furthest from PyTorch, and how all
of it was measured. Of each target the sweep counts that was written last."""


def add_command(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `farm report`."""
    parser.description = f"{(parser.description or '').capitalize()}. {_MORE}"
    parser.set_defaults(command=report)
    add = parser.add_argument
    add("--target", help="only the cells of this target")
    add("--sweep", help="the cells of this sweep (default: of each target the one written last)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="the page to write (default: report.html)",
    )
    what.add_argument(
        "--plot",
        metavar="FILE",
        help="write the plot alone: an image whose name ends in .png or .svg",
    )
    add("--results", metavar="PLACE", help=PLACE)


def report(options: argparse.Namespace) -> int:
    """Write the page or the plot. Returns 0.

    Raises:
        InputError: there is no leaderboard, an option is wrong, or a package is not installed.
    """
    from farm.cli import writable
    from farm.cli.latest import last_written
    from farm.cli.results import results_of
    from farm.results.report.whole import by_target, report_of

    option = "--plot" if options.plot else "--output"
    name = options.plot or options.output or "report.html"
    form = _form(name) if options.plot else ""
    path = writable.file(name, option)
    results = results_of(options.results, only_read=True)
    rows = results.read(options.target, options.sweep)
    others: dict[str, Sequence[str]] = {}
    if options.sweep is None:
        rows, found = last_written(rows, results)
        others.update(found)
    groups = by_target(rows)
    if options.plot:
        atomic.write(path, _plot(groups, form))
    else:
        matrix_of, place = results.kept_matrix, options.results
        atomic.write(path, report_of(groups, results.store(), matrix_of, place, others))
    log.info(f"{path}: {path.stat().st_size / 1e6:.1f} MB, {len(rows)} cells")
    print(path)
    return 0


def _form(name: str) -> str:
    """The format of an image, by the end of its name. Raises InputError."""
    from farm.results.report.plot import FORMATS

    form = Path(name).suffix.removeprefix(".").lower()
    if form not in FORMATS:
        wanted = " or ".join(f".{one}" for one in FORMATS)
        raise InputError(f"{name!r} does not end in {wanted}", "--plot")
    return form


def _plot(groups: dict[str, list[Row]], form: str) -> bytes:
    from farm.results.report import plot, points

    plotted = {target: rows for target, rows in groups.items() if any(map(points.shown, rows))}
    if not plotted:
        raise InputError("no cell has both an AP and a latency, so there is nothing to plot")
    return plot.drawn(plot.static(plotted), form)
