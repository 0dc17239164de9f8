"""`farm report`: one HTML page of the results, or the plot of AP against latency as an image."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from farm.errors import InputError
from farm.files import atomic
from farm.run import PLACE

if TYPE_CHECKING:
    from farm.cli.results import Results
    from farm.results.columns import Row
    from farm.results.report.sections import Section
    from farm.specs import Tolerance

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

    option = "--plot" if options.plot else "--output"
    name = options.plot or options.output or "report.html"
    form = _form(name) if options.plot else ""
    path = writable.file(name, option)
    results = results_of(options.results)
    rows = results.read(options.target, options.sweep)
    others: dict[str, Sequence[str]] = {}
    if options.sweep is None:
        rows, found = last_written(rows, results)
        others.update(found)
    groups = {one: [row for row in rows if row["target"] == one] for one in _targets(rows)}
    if options.plot:
        atomic.write(path, _plot(groups, form))
    else:
        from farm.results.report.charts import script
        from farm.results.report.page import page

        library = script()  # an error now where it is not installed
        place = options.results
        sections = [_section(own, results, place, others) for own in groups.values()]
        atomic.write(path, page(_title(sections), sections, library))
    log.info(f"{path}: {path.stat().st_size / 1e6:.1f} MB, {len(rows)} cells")
    print(path)
    return 0


def _targets(rows: Sequence[Row]) -> list[str]:
    return sorted({row["target"] for row in rows})


def _form(name: str) -> str:
    """The format of an image, by the end of its name. Raises InputError."""
    from farm.results.report.charts import FORMATS

    form = Path(name).suffix.removeprefix(".").lower()
    if form not in FORMATS:
        wanted = " or ".join(f".{one}" for one in FORMATS)
        raise InputError(f"{name!r} does not end in {wanted}", "--plot")
    return form


def _plot(groups: dict[str, list[Row]], form: str) -> bytes:
    from farm.results.report import charts, plot

    plotted = {target: rows for target, rows in groups.items() if any(map(plot.shown, rows))}
    if not plotted:
        raise InputError("no cell has both an AP and a latency, so there is nothing to plot")
    return charts.drawn(plot.static(plotted), form)


def _title(sections: Sequence[Section]) -> str:
    return ", ".join(dict.fromkeys(sweep for one in sections for sweep in one.sweeps))


def _section(
    rows: Sequence[Row], results: Results, place: str | None, others: dict[str, Sequence[str]]
) -> Section:
    from farm.results.report.disagreements import disagreements
    from farm.results.report.pictures import Pictures
    from farm.results.report.sections import section

    store = results.store()
    pictures = disagreements(rows, store, _tolerances(results), Pictures(store))
    return section(rows, store, place, others.get(rows[0]["target"], ()), list(pictures))


def _tolerances(results: Results) -> Callable[[str, str], Tolerance]:
    """What returns the tolerance of a sweep and a precision: that of the sweep's matrix, or the
    default one where the matrix is not kept here or only its owner may read it."""
    from farm.config.schema import VerifySpec

    known: dict[str, VerifySpec] = {}

    def tolerance(sweep: str, precision: str) -> Tolerance:
        if sweep not in known:
            try:
                known[sweep] = results.kept_matrix(sweep).spec.verify
            except (InputError, OSError) as error:
                log.debug(f"default tolerances for the pictures of {sweep}: {error}")
                known[sweep] = VerifySpec()
        return known[sweep].of(precision)

    return tolerance
