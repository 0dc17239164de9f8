"""What an MLflow server that takes a second for each call costs a sweep, and what logging costs.

    python benchmarks/tracker.py [--cells N] [--rounds N] [--executor ray | inline]
    python benchmarks/tracker.py --log N

A sweep that does nothing (`null_sweep.py`) is run in pairs, with a real MLflow server that answers
at once and with one that answers a second later; which of them is first changes from pair to pair.
A sweep's time is that until its leaderboard is on the disk and shown; what the command then waits
for MLflow is beside it. The exit code is 1 where the median of the pairs' ratios is over 1.05.

--log: the seconds that it takes to log so many cells, each with an engine, to the database in the
results and by MLflow's client to an SQLite database of the user's; 1 where either takes over 60.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import null_sweep

PROJECT = Path(__file__).resolve().parent.parent
sys.path.append(str(PROJECT / "tests"))

from chaos.tracker import Tracker  # noqa: E402

PAUSE_S, MOST = 1.0, 1.05
MOST_LOG_S = 60.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=200, help="a multiple of 4")
    parser.add_argument("--rounds", type=int, default=3, help="pairs of sweeps")
    parser.add_argument("--executor", default="ray", help="of the sweeps: ray or inline")
    parser.add_argument("--log", type=int, metavar="N", help="only log N cells, and time that")
    options = parser.parse_args()
    if options.log:
        return log(options.log)
    with tempfile.TemporaryDirectory(prefix="tracker-") as text:
        folder = Path(text)
        matrix = null_sweep.write_matrix(folder / "matrix", options.cells)
        (folder / "mlflow").mkdir()
        tracker = Tracker(folder / "mlflow", dict(os.environ))
        pairs = []
        try:
            for number in range(options.rounds):
                results = folder / str(number)
                pairs.append(pair(matrix, results, tracker, options.executor, bool(number % 2)))
        finally:
            tracker.close()
    ratio = median(slow / quick for quick, slow in pairs)
    quick, slow = (median(times) for times in zip(*pairs, strict=True))
    met = "met" if ratio <= MOST else "MISSED"
    print(f"{options.cells} cells: {quick:.1f} s -> {slow:.1f} s, {ratio:.3f} times: {met}")
    return 0 if met == "met" else 1


def log(cells: int) -> int:
    """Time the logging of so many cells; return the exit code."""
    from rows import row

    from farm.results import tracking

    rows = [row(f"c{n}", box_ap=n / cells, build_key=f"{n:064}") for n in range(cells)]
    engine = tracking.Evidence({"engine": "/store/engine"}, 1.0, 2.0, "0" * 64)
    evidence, worst = {one["cell"]: engine for one in rows}, 0.0
    for where in ("the database in the results", "an SQLite database of the user's"):
        with tempfile.TemporaryDirectory(prefix="tracker-") as text:
            os.environ.pop("MLFLOW_TRACKING_URI", None)
            if "user" in where:
                os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{text}/other.db"
                os.chdir(text)  # where MLflow puts artifacts
            tracking.log_sweep("first", rows[:1], evidence, Path(text))  # makes the database
            began = time.perf_counter()
            tracking.log_sweep("nothing", rows, evidence, Path(text))
            worst = max(worst, passed := time.perf_counter() - began)
            os.chdir(PROJECT)
        met = "met" if passed <= MOST_LOG_S else "MISSED"
        print(f"{cells} cells to {where}: {passed:.1f} s of {MOST_LOG_S:.0f}: {met}", flush=True)
    return 0 if worst <= MOST_LOG_S else 1


def pair(
    matrix: Path, results: Path, tracker: Tracker, executor: str, slow_first: bool
) -> tuple[float, float]:
    """Run the matrix with both servers; return the seconds that it takes with the quick one, and
    with the slow one."""
    times = {}
    for pause in sorted((0.0, PAUSE_S), reverse=slow_first):
        tracker.pause_s, tracker.calls = pause, 0
        shown, ended = seconds(matrix, results / f"{pause:.0f}", tracker, executor)
        times[pause] = shown
        print(
            f"{pause:.0f} s a call: {shown:6.1f} s, then {ended - shown:6.1f} s; "
            f"{tracker.calls} calls",
            flush=True,
        )
    return times[0.0], times[PAUSE_S]


def seconds(matrix: Path, results: Path, tracker: Tracker, executor: str) -> tuple[float, float]:
    """Run the matrix; return the seconds until its leaderboard is shown, and until the end."""
    command = [sys.executable, "-m", "farm", "run", str(matrix), "--results", str(results)]
    command += ["--executor", executor]
    # Measurements of other sweeps on this machine are not waited for: nothing is measured here.
    locks = results.with_name("locks")
    locks.mkdir(parents=True, exist_ok=True)
    env = {**os.environ, "MLFLOW_TRACKING_URI": tracker.address, "FARM_LOCKS": str(locks)}
    began, pipe = time.perf_counter(), subprocess.PIPE
    with subprocess.Popen(command, env=env, stdout=pipe, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise RuntimeError(f"the sweep has ended with {process.wait()} and shown nothing")
        shown = time.perf_counter() - began
        process.stdout.read()
    return shown, time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
