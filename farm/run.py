"""`farm run`, and `python -m farm.run MATRIX` for `ray job submit`: one sweep, to its exit code."""

from __future__ import annotations

import argparse
import logging
import math
import signal
import sys
from collections import Counter
from typing import Any

from farm import interrupts, logs
from farm.errors import FarmError, InputError, text_of
from farm.interrupts import Interrupted
from farm.terminal import plain_output

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_sweep_arguments(parser)
    parser.add_argument("--no-mlflow", action="store_true", help="write the leaderboard only")


def add_sweep_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the matrix, and how its steps are run."""
    parser.add_argument("matrix", help="the matrix file (YAML)")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="replaces a value of the matrix"
    )
    parser.add_argument("--results", metavar="DIR", help="where results go (default: results)")
    parser.add_argument(
        "--executor", choices=("ray", "inline"), default="ray", help="inline: in this process"
    )
    parser.add_argument(
        "--address", help="a Ray cluster (default: RAY_ADDRESS, else a local one is started)"
    )
    parser.add_argument(
        "--retry-failed", action="store_true", help="try recorded failures once more"
    )
    parser.add_argument(
        "--step-minutes",
        type=minutes,
        default=360,
        help="a step that takes longer is given up (default: 360; not with --executor inline)",
    )
    parser.add_argument(
        "--check-minutes",
        type=minutes,
        default=5,
        help="a model's check that takes longer has failed (default: 5)",
    )


def minutes(text: str) -> float:
    """A finite number above 0."""
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"{text} is no time limit; expected minutes above 0")
    return value


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The options; overrides may stand after them, which argparse alone does not take."""
    options, rest = parser.parse_known_args()
    if rest and (not hasattr(options, "overrides") or any(word.startswith("-") for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        options.overrides += rest
    return options


def run(options: argparse.Namespace) -> int:
    """Returns the exit code: 0 all well, 1 some cells failed, 130 interrupted."""
    from farm.cli.places import results_folder
    from farm.config.loader import load_matrix
    from farm.engine.status import CellStatus
    from farm.results.tables import render
    from farm.sweep import Choices, run_sweep

    matrix = load_matrix(options.matrix, options.overrides)
    results = results_folder(options.results, matrix)
    choices = Choices(
        executor=options.executor,
        address=options.address,
        retry_failed=options.retry_failed,
        mlflow=not options.no_mlflow,
        step_minutes=options.step_minutes,
        check_minutes=options.check_minutes,
    )
    sweep = run_sweep(matrix, results, choices)
    if sweep.rows:
        print(render(sweep.rows, "table"))
    if sweep.interrupted:
        log.warning("Interrupted. What was finished is kept: the same command goes on from there.")
        return sweep.exit_code
    counts = Counter(row["status"] for row in sweep.rows)
    pending = f", {counts[CellStatus.PENDING]} pending" if counts[CellStatus.PENDING] else ""
    failed = f"{len(sweep.rows)} cells, {counts[CellStatus.FAILED]} failed{pending}"
    log.info(f"\n{failed}. Results: {results}")
    return sweep.exit_code


def guarded(run_command: Any, options: argparse.Namespace) -> int:
    """Run a command; every error becomes what its user should read, and its exit code.

    Ctrl-C and SIGTERM (`ray job stop`, a batch system's end) interrupt it. What is printed
    meanwhile, by whomever, cannot steer the terminal.
    """
    interrupts.forget()
    logs.configure(logs.level_of(options))
    with plain_output():
        return _guarded(run_command, options)


def _guarded(run_command: Any, options: argparse.Namespace) -> int:
    try:
        with interrupts.handled(signal.SIGINT, signal.SIGTERM):
            return int(run_command(options))
    except InputError as error:
        log.error(f"farm: {error}")
        return 2
    except FarmError as error:
        log.error(f"farm: {error}")
        return 1
    except Interrupted:
        log.error("farm: interrupted")
        return 130
    except (SystemExit, KeyboardInterrupt, GeneratorExit) as error:  # no code of the farm's does so
        kind, text = type(error).__name__, text_of(error)
        log.error(
            f"farm: the model's code raised {kind}{text and f': {text}'}, which ends no command"
        )
        return 1
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except OSError as error:  # no room, no right to write: nothing that was finished is lost
        log.error(f"farm: {error.filename or 'a file'}: {error.strerror or error}")
        return 2


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m farm.run", description=__doc__)
    add_arguments(parser)
    logs.add_arguments(parser)
    return guarded(run, parse(parser))


if __name__ == "__main__":
    interrupts.to_the_end(main)
