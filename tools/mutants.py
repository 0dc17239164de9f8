"""Break the code on purpose, one place at a time, and see which breaks no test notices.

    python tools/mutants.py [--count 60] [--seed 1] [--only engine/scheduler] [--all]

Takes places by seed from the packages below, or all: operators, comparisons, conditions, constants,
returned values. Each mutant is written into a copy of the project, where the tests without engines
that reach the line are run, as the data of `make coverage` says (of lines that run outside of
tests, at import say: the package's own tests and those that import the module). Slow tests in the
package's own folder are run for what no other has noticed, where they import the module, and of
lines that no other test reaches. Prints the survivors; ends with 1 if they are more than 5 %.

All tests are imported once. For most mutants that process forks and breaks the function that is
there already (`mutant_forks.py`), which takes tenths of a second. What runs at import is broken in
a process that imports it anew (`mutant_runs.py`), which takes ten seconds to minutes, as slow tests
do. What is broken, and what is left out, says `mutations.py`; which tests, `mutant_tests.py`.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from mutant_forks import Collected, Verdict
from mutant_runs import preload, survives
from mutant_tests import Reach
from mutations import ROOT, Mutant, mutants

PACKAGES = ("config", "engine", "plan", "results", "store")
MOST_SURVIVORS = 0.05


def every(only: str) -> list[Mutant]:
    """Of the modules whose path has this in it, in their order."""
    paths = [path for name in PACKAGES for path in sorted((ROOT / "farm" / name).rglob("*.py"))]
    return [one for path in paths if only in str(path) for one in mutants(path)]


def sample(count: int, seed: int, only: str) -> list[Mutant]:
    """Each package has its part; the same arguments and code give the same mutants."""
    found = every(only)
    return random.Random(seed).sample(found, min(count, len(found)))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="modules whose path has this in it")
    parser.add_argument("--all", action="store_true", help="every mutant, not --count of them")
    parser.add_argument("--data", type=Path, default=ROOT / "build" / "coverage" / "data")
    options = parser.parse_args()
    if not options.data.exists():
        parser.error(f"{options.data} is not there: run `make coverage` before")
    sampled = sample(options.count, options.seed, options.only)
    chosen = every(options.only) if options.all else sampled
    reach = Reach(options.data)
    preload()
    with tempfile.TemporaryDirectory(prefix="farm-mutants-") as folder:
        project = Path(folder) / "farm"
        shutil.copytree(ROOT, project, ignore=_not_copied, symlinks=True)
        with contextlib.closing(Collected(project)) as collected:
            survivors = [one for one in chosen if _report(one, reach, collected, project)]
    which = "all" if options.all else f"seed {options.seed}"
    print(f"{len(survivors)} of {len(chosen)} mutants survived ({which}):")
    print("\n".join(f"  {one}" for one in survivors))
    return int(len(survivors) > MOST_SURVIVORS * len(chosen))


def _not_copied(folder: str, names: list[str]) -> list[str]:
    """Of a folder's names those that tests do not need: caches and what was made here."""
    made = {ROOT: ("build", "data"), ROOT / "results": sorted({*names} - {"records"})}
    left_out = ("__pycache__", *made.get(Path(folder), ()))
    return [name for name in names if name.startswith(".") or name in left_out]


def _report(mutant: Mutant, reach: Reach, collected: Collected, project: Path) -> bool:
    started, tests = time.monotonic(), reach.tests(mutant)
    verdict = collected.verdict(mutant, tests)
    anew = tests if verdict is Verdict.UNKNOWN else []
    noticed = verdict is Verdict.NOTICED
    alive = not noticed and survives(mutant, anew, reach.slow(mutant), project)
    how = "SURVIVED" if alive else "noticed"
    seconds = time.monotonic() - started
    print(f"{how:<9}{seconds:5.1f} s {len(tests):3} tests  {mutant}", flush=True)
    return alive


if __name__ == "__main__":
    sys.exit(main())
