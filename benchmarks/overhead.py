"""What the farm itself costs, as ratios to its goals, with a runtime that does nothing.

    python benchmarks/overhead.py [--results DIR] [--rounds N] [--only NAME ...] [--demo]

driver: CPU of the scheduler for each step, of 100 and of 100,000 that an executor ends at once.
worker: seconds of a step that must be alone beyond those of its stage. sweep: a sweep of 1,000
cells under Ray / as many bare Ray tasks that write as many files of the same size. live: such a
sweep whose leaderboard and MLflow are up to date while it runs / one that writes both at its end,
in turn; until the table is shown. planning,
leaderboard, evaluate: see planning.py and evaluate.py. demo: the demo's sweep / its bound (the
shared work divided by the cores, and what is timed alone on the machine with its warm-up).

Each line has the figure, its goal and the ratio of both; the exit code is 1 where a goal is missed.
Times are the least of N rounds: other programs only add to them. DIR keeps finished sweeps.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import demo
import evaluate
import null_sweep
import planning
from planning import Figure

from farm.engine.estimates import Estimates
from farm.engine.scheduler import Outcome, StepStatus, Unwatched, run_steps
from farm.engine.workers.limits import Limit
from farm.engine.workers.supervise import Supervisor
from farm.plan import Needs, Step
from farm.plan.machines.placement import cores
from farm.store import Record, Store, read_record

PROJECT = Path(__file__).resolve().parent.parent
CELLS, FEW, MANY, ROWS = 1_000, 100, 100_000, 20_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=PROJECT / "results" / "overhead")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=[*PARTS][:-1])
    parser.add_argument("--demo", action="store_true", help="also run the demo (minutes)")
    options = parser.parse_args()
    results = options.results.resolve()
    missed = 0
    for name in [*options.only, *(["demo"] if options.demo else [])]:
        for figure in PARTS[name](results, options.rounds):
            missed += not figure.met
            print(f"{figure}  ratio {figure.value / figure.most:.2f}", flush=True)
    return 1 if missed else 0


class Instant:
    """An executor in which every step is done as soon as it is taken."""

    def __init__(self) -> None:
        self._taken: list[Step] = []

    def admit(self, steps: Iterable[Step], estimates: Estimates) -> Mapping[str, str]:
        return {}

    def forget(self, step: Step) -> None: ...

    def take(self, step: Step) -> bool:
        if len(self._taken) == 4:
            return False
        self._taken.append(step)
        return True

    def wait(self) -> Outcome:
        return Outcome(self._taken.pop(0).key, StepStatus.DONE, seconds=0.001)

    def stop(self) -> None: ...


def driver(_: Path, rounds: int) -> Iterator[Figure]:
    few = min(driver_ms(FEW) for _ in range(rounds))
    many = driver_ms(MANY)
    yield Figure(f"driver's CPU a step, of {FEW}", few, 1, "ms")
    yield Figure(f"driver's CPU a step, of {MANY}", many, 1, "ms")
    yield Figure("driver's CPU a step, of very many over few", many / few, 1.2)


def driver_ms(count: int) -> float:
    """CPU of the driver for each of so many steps, four of a chain for each cell, in ms."""
    steps = dict[str, Step]()
    for cell in range(count // 4):
        parents: tuple[str, ...] = ()
        for stage in ("build", "verify", "evaluate", "measure"):
            key = f"{stage}{cell}".ljust(64, "0")
            needs = Needs(exclusive=stage == "measure")
            steps[key] = Step(stage, key, "", None, (), parents, needs, "")  # type: ignore[arg-type]
            parents = (key,)
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        run_steps(steps, Store(folder), Instant, Unwatched())
        return (time.process_time() - began) / len(steps) * 1e3


def worker(results: Path, rounds: int) -> Iterator[Figure]:
    """Run one `measure` of the null sweep again and again in a store of its own."""
    plan, store = null_plan(results)
    measure = next(step for step in plan.of_stage("measure"))
    parents = [plan.steps[key] for key in measure.parents]
    supervisor, seconds = Supervisor(), list[float]()
    with tempfile.TemporaryDirectory() as folder:
        for parent in parents:
            shutil.copytree(store.path(parent.ref), Store(folder).path(parent.ref))
        for number in range(10 * rounds):
            own = replace(measure, key=f"{number}".rjust(64, "0"))
            began = time.perf_counter()
            outcome = supervisor.run(own, folder, Limit(60))
            passed = time.perf_counter() - began
            record = Store(folder).record(own.ref)
            assert record is not None, outcome.reason
            seconds.append(passed - record.seconds)
    supervisor.close()
    yield Figure("a measure beside its stage, the first", seconds[0], 5, "s")
    yield Figure("a measure beside its stage, median", sorted(seconds)[len(seconds) // 2], 0.2, "s")


def null_plan(results: Path) -> tuple[Any, Store]:
    from farm.config.loader import load_matrix
    from farm.plan import make_plan
    from farm.store.facts import facts_from

    matrix, own = null_sweep.write_matrix(results / "small", 4, "small"), results / "small-results"
    null_sweep.run(matrix, own, "--executor", "inline", "--no-mlflow")
    store = Store(own / "store")
    return make_plan(load_matrix(str(matrix)), facts_from(store)), store


def sweep(results: Path, rounds: int) -> Iterator[Figure]:
    matrix, own = null_sweep.write_matrix(results / "matrix", CELLS), results / "ray"
    shutil.rmtree(own, ignore_errors=True)
    began = time.perf_counter()
    null_sweep.run(matrix, own, "--no-mlflow")
    passed = time.perf_counter() - began
    records = [read_record(path) for path in (own / "store").glob("*/*/*/record.json")]
    light = [one for one in records if one.stage != "measure"]
    began = time.perf_counter()
    bare = [sys.executable, __file__, "--bare", str(len(records)), *files_of(records)]
    done = subprocess.run(bare, check=True, capture_output=True, text=True)
    whole = time.perf_counter() - began
    print(f"  {len(records)} steps in {passed:.1f} s, {len(light)} of them light; "
          f"bare tasks {float(done.stdout):.1f} s, {whole:.1f} s with Ray's start")  # fmt: skip
    yield Figure(f"a sweep of {CELLS} cells over bare Ray tasks", passed / whole, 1.3)


def live(results: Path, rounds: int) -> Iterator[Figure]:
    matrix, ratios = null_sweep.write_matrix(results / "matrix", CELLS), list[float]()
    for number in range(rounds):
        seconds = {}
        for kept in sorted((True, False), reverse=bool(number % 2)):
            own = results / "live"
            shutil.rmtree(own, ignore_errors=True)
            mode = [] if kept else ["--silent"]
            words = ["run", str(matrix), "--results", str(own), "--executor", "inline"]
            command = [sys.executable, __file__, "--farm", *mode, *words]
            seconds[kept] = shown_after(command)
            print(f"  up to date: {kept}; {seconds[kept]:.1f} s", flush=True)
        ratios.append(seconds[True] / seconds[False])
    yield Figure(f"a sweep of {CELLS} cells, up to date over not", median(ratios), 1.02)


def shown_after(command: list[str]) -> float:
    """Return the seconds until a sweep shows its table; MLflow is then waited for."""
    began, pipe = time.perf_counter(), subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise RuntimeError(f"the sweep has ended with {process.wait()} and shown nothing")
        passed = time.perf_counter() - began
        process.stdout.read()
    return passed


def farm_command(words: list[str]) -> None:
    """Run `farm WORDS`; after `--silent` nothing is kept up to date while a sweep runs."""
    from farm.cli.main import main as farm
    from farm.results.leaderboard import board

    if words[0] == "--silent":
        words = words[1:]
        board.LiveRows._follow = lambda self: None  # type: ignore[method-assign]
    sys.argv = ["farm", *words]
    farm()


def files_of(records: list[Record]) -> list[str]:
    """The number of files of an artifact and their size in bytes, on average."""
    files = sum(len(one.files) + 2 for one in records)  # the record and the log, too
    size = sum(sum(one.files.values()) + 2000 for one in records)
    return [str(round(files / len(records))), str(size // files)]


def bare_tasks(count: int, files: int, size: int) -> None:
    """Print the seconds that so many Ray tasks take which write files into a folder each."""
    import ray

    ray.init(
        address="local", num_cpus=cores(), include_dashboard=False, log_to_driver=False,
        object_store_memory=100 << 20, _node_ip_address="127.0.0.1",
    )  # fmt: skip
    folder = tempfile.mkdtemp()

    @ray.remote(max_retries=0)
    def write(number: int) -> int:
        part = Path(folder, f"{number}.part")
        part.mkdir()
        for file in range(files):
            (part / str(file)).write_bytes(b"x" * size)
        part.rename(part.with_suffix(""))
        return number

    began, number, running = time.perf_counter(), 0, list[Any]()
    while number < count or running:
        while number < count and len(running) < cores() + 2:
            running.append(write.remote(number))
            number += 1
        done, running = ray.wait(running, num_returns=1)
        ray.get(done[0])
    print(time.perf_counter() - began)
    ray.shutdown()
    shutil.rmtree(folder)


def plans(results: Path, rounds: int) -> Iterator[Figure]:
    yield from planning.planning_figures(rounds)
    yield planning.finished_sweep(results / "null", rounds)


def leaderboard(results: Path, rounds: int) -> Iterator[Figure]:
    from farm.results import leaderboard as files

    own = results / "board"
    if not own.exists():
        null_plan(results)
        rows = files.read(results / "small-results")
        many = [{**rows[n % len(rows)], "cell": f"{n}", "sweep": "many"} for n in range(ROWS)]
        files.write(many, own, "many")
    command = [sys.executable, "-m", "farm", "leaderboard", "--results", str(own)]
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - began)
    yield Figure(f"farm leaderboard of {ROWS} rows", min(seconds), 1, "s")


def evaluation(results: Path, rounds: int) -> Iterator[Figure]:
    for ratio in (*evaluate.of_loops(results / "evaluate", rounds), *evaluate.of_ap(rounds)):
        yield Figure(f"{ratio.name}: goal over ratio", ratio.goal / ratio.value, 1)


PARTS: dict[str, Callable[[Path, int], Iterator[Figure]]] = {
    "driver": driver,
    "worker": worker,
    "sweep": sweep,
    "live": live,
    "planning": plans,
    "leaderboard": leaderboard,
    "evaluate": evaluation,
    "demo": demo.figures,
}

if __name__ == "__main__":
    if sys.argv[1:2] == ["--bare"]:
        bare_tasks(*map(int, sys.argv[2:]))
    elif sys.argv[1:2] == ["--farm"]:
        farm_command(sys.argv[2:])
    else:
        sys.exit(main())
