"""Run one sweep: `farm run`, and `python -m farm.run MATRIX` for `ray job submit`."""

from __future__ import annotations

import argparse
import logging
import math
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from farm import interrupts
from farm.called import callable_as_function
from farm.errors import FarmError, InputError
from farm.failures import text_of
from farm.interrupts import Interrupted
from farm.parsing import parse_seconds
from farm.terminal import logs, plain_output

if TYPE_CHECKING:
    from farm.sweep import Sweep

callable_as_function(__name__)  # `farm.run(...)` is `farm.api.run(...)`

log = logging.getLogger("farm.run")  # also where this module is run as `__main__`


def add_command(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `farm run`."""
    add_sweep_arguments(parser)
    parser.add_argument("--no-mlflow", action="store_true", help="write the leaderboard only")
    parser.add_argument(
        "--again", choices=("measure", "compare"),
        help="take new figures of cells that have some; the earlier ones are kept"
        " (`farm leaderboard --history`), and the new ones count",
    )  # fmt: skip
    parser.add_argument(
        "--only", action="append", default=[], metavar="CELL",
        help="with --again: only this cell (* and ? stand for any characters), or `unstable` for"
        " those that drifted or ran beside other work; may be given several times",
    )  # fmt: skip
    parser.set_defaults(command=run)


PLACE = "where results are: a folder (default: results), or s3://BUCKET/PATH, gs:// or az://"


def add_sweep_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the matrix, and the options for how its steps are run."""
    parser.add_argument("matrix", help="the matrix file (YAML)")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="replaces a value of the matrix"
    )
    parser.add_argument("--results", metavar="PLACE", help=PLACE)
    parser.add_argument(
        "--executor",
        choices=("ray", "inline"),
        default="ray",
        help="inline: one step after another on this machine, without Ray (default: ray)",
    )
    parser.add_argument(
        "--address", help="a Ray cluster (default: RAY_ADDRESS, else a local one is started)"
    )
    parser.add_argument(
        "--wait-for-nodes", type=_duration, default=0.0, metavar="TIME",
        help="on a cluster with an autoscaler: how long a step waits for a node of its kind that is"
        " not there, as 20m (default: it fails at once)",
    )  # fmt: skip
    parser.add_argument(
        "--retry-failed", action="store_true", help="try recorded failures once more"
    )


def _duration(text: str) -> float:
    """Parse a time as in a matrix (`20m`), in seconds.

    Raises:
        ArgumentTypeError: it is none.
    """
    try:
        return parse_seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def minutes(text: str) -> float:
    """Parse a number of minutes.

    Raises:
        ArgumentTypeError: it is not a finite number above 0.
        ValueError: it is no number.
    """
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"{text} is no time limit; expected minutes above 0")
    return value


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse the command line; overrides may follow options, which argparse alone does not allow.

    Raises:
        SystemExit: the command line is wrong, or has asked for help.
    """
    options, rest = parser.parse_known_args()
    if rest and (not hasattr(options, "overrides") or any(word.startswith("-") for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        options.overrides += rest
    return options


def run(options: argparse.Namespace) -> int:
    """Run a sweep. Returns the exit code: 0 if every cell that can be run is OK, 1 if not, 130 if
    interrupted.

    Raises:
        InputError: something that the user must correct.
    """
    from farm.cli.results import results_of
    from farm.config.loader import load_matrix
    from farm.engine.executors import Choices
    from farm.engine.status import counted
    from farm.results.again import Again
    from farm.sweep import log_place, run_sweep

    if options.only and not options.again:
        raise InputError("it says which cells --again takes; give that, too", "--only")
    again = Again(options.again, tuple(options.only)) if options.again else None
    matrix = load_matrix(options.matrix, options.overrides)
    results = results_of(options.results, matrix)
    choices = Choices(
        executor=options.executor,
        address=options.address,
        retry_failed=options.retry_failed,
        mlflow=not options.no_mlflow,
        wait_for_nodes_s=options.wait_for_nodes,
    )
    sweep = run_sweep(matrix, results, choices, _show, again)
    if sweep.interrupted:
        log.warning("Interrupted. Finished steps are kept; the same command continues from there.")
        return sweep.exit_code
    log.info(f"\n{counted(row['status'] for row in sweep.rows)}. Results: {results}")
    if choices.mlflow:
        log_place(matrix.name, results)
    return sweep.exit_code


def _show(sweep: Sweep) -> None:
    from farm.results.tables.render import render

    if sweep.rows:
        print(render(sweep.rows, "table"), flush=True)


Command = Callable[[argparse.Namespace], int]
"""Runs with the parsed command line; returns the exit code."""


def guarded(command: Command, options: argparse.Namespace) -> int:
    """Run a command and return its exit code; log every error as its user should read it.

    Ctrl-C and SIGTERM (of `ray job stop` or a batch system) interrupt the command. Nothing that is
    printed meanwhile can control the terminal.
    """
    interrupts.forget()
    logs.configure(logs.level_of(options))
    with plain_output():
        return _guarded(command, options)


def _guarded(command: Command, options: argparse.Namespace) -> int:
    try:
        with interrupts.handled(signal.SIGINT, signal.SIGTERM):
            return command(options)
    except Interrupted:
        log.error("farm: interrupted")
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except (FarmError, OSError, SystemExit, KeyboardInterrupt, GeneratorExit) as error:
        log.error(f"farm: {_message(error)}")
        log.debug("its traceback", exc_info=True)
        return 2 if isinstance(error, InputError | OSError) else 1


def _message(error: BaseException) -> str:
    if isinstance(error, FarmError):
        return str(error)
    if isinstance(error, OSError):  # a full disk, no right to write: finished steps are kept
        return f"{error.filename or 'a file'}: {error.strerror or error}"
    # The farm raises none of the others.
    kind, text = type(error).__name__, text_of(error)
    return f"the model's code raised {kind}{text and f': {text}'}"


def main() -> int:
    """Run the sweep that the command line names, and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m farm.run", description=__doc__)
    add_command(parser)
    logs.add_arguments(parser)
    return guarded(run, parse(parser))


if __name__ == "__main__":
    interrupts.to_the_end(main)
