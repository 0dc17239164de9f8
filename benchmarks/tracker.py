"""What an MLflow server that takes a second for each call costs a sweep.

    python benchmarks/tracker.py [--cells N] [--rounds N]

A sweep that does nothing (`null_sweep.py`) is run in turn with a real MLflow server that answers at
once and with one that answers a second later. A sweep's time is that until its leaderboard is on
the disk and shown; what the command then waits for MLflow is beside it. The exit code is 1 where
the sweep takes over 5 % longer.
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=200, help="a multiple of 4")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tracker-") as text:
        folder = Path(text)
        matrix = null_sweep.write_matrix(folder / "matrix", options.cells)
        (folder / "mlflow").mkdir()
        tracker = Tracker(folder / "mlflow", dict(os.environ))
        times: dict[float, list[tuple[float, float]]] = {0.0: [], PAUSE_S: []}
        try:
            for number in range(options.rounds):
                for pause in times:
                    tracker.pause_s = pause
                    times[pause].append(seconds(matrix, folder / f"{number}-{pause}", tracker))
                    shown, ended = times[pause][-1]
                    print(f"{pause:.0f} s a call: {shown:6.1f} s, then {ended - shown:6.1f} s")
        finally:
            tracker.close()
    quick, slow = (median(shown for shown, _ in found) for found in times.values())
    met = "met" if slow / quick <= MOST else "MISSED"
    print(f"{options.cells} cells: {quick:.1f} s -> {slow:.1f} s, {slow / quick:.3f} times: {met}")
    return 0 if met == "met" else 1


def seconds(matrix: Path, results: Path, tracker: Tracker) -> tuple[float, float]:
    """Run the matrix; return the seconds until its leaderboard is shown, and until the end."""
    command = [sys.executable, "-m", "farm", "run", str(matrix), "--results", str(results)]
    env = {**os.environ, "MLFLOW_TRACKING_URI": tracker.address}
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
