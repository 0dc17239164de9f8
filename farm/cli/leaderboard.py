"""`farm leaderboard`: the results of all sweeps, or the cells and columns that are asked for."""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from farm.errors import InputError
from farm.run import PLACE

if TYPE_CHECKING:
    from farm.cli.results import Results
    from farm.results.conditions import Condition
    from farm.results.tables.views import View

T = TypeVar("T")

WHERE = (
    "only cells that meet this, as 'engine_bytes < 50MB' or 'runtime = openvino@*'; operators:"
    " < <= > >= = !=; may be given several times"
)

_MORE = """\
Columns have the names of the files, which --format csv lists. A condition is a column, an operator
and a value: a number, perhaps with a unit (50MB, 20ms, 40%%), true or false, a text in which * and
? stand for any characters, or - for no value."""


def add_command(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `farm leaderboard`."""
    parser.description = f"{(parser.description or '').capitalize()}. {_MORE}"
    parser.set_defaults(command=leaderboard)
    add = parser.add_argument
    add("--target", help="only the cells of this target (default: of all)")
    add("--sweep", help="only the cells of this sweep (default: of all)")
    add("--where", action="append", default=[], metavar="CONDITION", help=WHERE)
    add(
        "--sort",
        metavar="COLUMNS",
        help="sort by these columns, as latency_p50_ms; a - before one puts its largest value"
        " first, as --sort=-bbox_mAP,latency_p50_ms (default: by target, sweep and model, the"
        " fastest first)",
    )
    add(
        "--columns",
        metavar="COLUMNS",
        help="show these columns, with commas between them (default: in tables those that tell"
        " cells apart, in csv and json all)",
    )
    add("--top", type=_count, metavar="N", help="show the first N cells alone (default: all)")
    add(
        "--format",
        choices=("table", "csv", "json", "markdown"),
        default="table",
        help="how it is printed (default: table)",
    )
    add(
        "--history",
        action="store_true",
        help="show the earlier figures of cells that were measured again, and which count",
    )
    add("--by-class", action="store_true", help="show the AP of each class")
    add("--results", metavar="PLACE", help=PLACE)


def leaderboard(options: argparse.Namespace) -> int:
    """Print the leaderboard. Returns 0.

    Raises:
        InputError: there is no leaderboard, or an option is wrong.
    """
    from farm.cli.results import results_of
    from farm.results.tables.render import looked_at, render, render_by_class
    from farm.terminal.styles import show

    gc.disable()  # a seventh of the time of many rows; the command ends at once
    view = _view(options)
    only = None if options.by_class else looked_at(options.format, view)
    results = results_of(options.results, only_read=True)
    if options.history:
        print(_history(results, options, view))
        return 0
    rows = results.read(options.target, options.sweep, only)
    if options.by_class:
        print(render_by_class(rows, options.format, view))
    else:
        show(render(rows, options.format, view, coloured=True))
    return 0


def _history(results: Results, options: argparse.Namespace, view: View) -> str:
    """The measurements of all cells that have several, the one that counts last."""
    from farm.results.kept.history import SHOWN, with_earlier
    from farm.results.tables.render import render_columns

    rows = results.read(options.target, options.sweep)
    found = view.of(with_earlier(rows, results.history(options.target, options.sweep)))
    if not found and options.format in ("table", "markdown"):
        return "No cell was measured again; `farm run MATRIX --again measure` does that."
    return render_columns(found, SHOWN, options.format)


def _view(options: argparse.Namespace) -> View:
    from farm.results.tables.views import View, parse_columns, parse_sort

    for other in ("by_class", "history"):
        if getattr(options, other) and (options.sort or options.columns or options.top):
            raise InputError(
                "--sort, --columns and --top are of the table of cells; leave them out",
                f"--{other.replace('_', '-')}",
            )
    sort = parsed("--sort", parse_sort, options.sort) if options.sort else ()
    columns = parsed("--columns", parse_columns, options.columns) if options.columns else ()
    return View(parse_where(options.where), sort, columns, options.top)


def parse_where(written: Sequence[str]) -> tuple[Condition, ...]:
    """Parse the conditions of `--where`. Raises InputError for the first one that is wrong."""
    from farm.results.conditions import parse

    return tuple(parsed("--where", parse, one) for one in written)


def parsed(option: str, parse: Callable[[str], T], written: str) -> T:
    """Parse the value of an option. Raises InputError, which names the option."""
    try:
        return parse(written)
    except InputError as error:
        raise InputError(error.message, option) from None


def _count(text: str) -> int:
    value = int(text[:9]) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of cells; expected 1 or more")
    return value
