"""Whether what the farm ranks holds, on a machine that is busy on purpose.

    python benchmarks/trust.py [--pairs 100] [--repeats 50] [--checks turns aa slower pick tools ap]

turns: engines that have all cores are no more than 10 % slower in turn than alone.
aa: one engine entered as two cells is called different in at most 5 of 100 pairs; beside it, how
often the rule that divides the deviation within a run by the root of its samples does. slower: an
engine slowed by 2 % is found slower in at least 80 of 100 pairs, each in at most 60 s.
pick: of 200 cells of known speed on a simulated machine, the pick is that of an exhaustive
measurement, or tied with it, in 95 % of the repeats, in a quarter of its time.
tools: the median latency is within 2 % of OpenVINO's benchmark_app and of a bare loop over ONNX
Runtime, over five interleaved pairs. ap: see `trust_ap.py`.

Another process meanwhile keeps a core busy for random seconds, but for `turns`. Prints a table and
ends with 1 where a check fails. All checks take ten minutes on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from trust_checks import Check, as_table
from trust_pairs import equal_pairs, slower_pairs
from trust_pick import picks
from trust_tools import against_tools, in_turn

BUSY = """\
import os, random, time
parent = os.getppid()
while os.getppid() == parent:  # also where this process has no time to end it
    until = time.monotonic() + random.uniform(0.5, 4)
    while time.monotonic() < until: pass
    time.sleep(random.uniform(0.5, 4))
"""


@contextmanager
def load() -> Iterator[None]:
    """Keep a core busy for random seconds, with random pauses, until the block ends."""
    busy = subprocess.Popen([sys.executable, "-c", BUSY])
    try:
        yield
    finally:
        busy.kill()
        busy.wait()


def coverage_of_ap() -> list[Check]:
    """Run `trust_ap.py` on its own; it prints its own table."""
    script = Path(__file__).with_name("trust_ap.py")
    done = subprocess.run([sys.executable, str(script)], check=False)
    return [Check("interval of the AP drop", "see above", "holds", done.returncode == 0)]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=100, help="pairs of engines (default: 100)")
    parser.add_argument("--repeats", type=int, default=50, help="of the pick (default: 50)")
    parser.add_argument(
        "--seconds", type=float, default=30.0, help="budget of a pair (default: 30)"
    )
    names = ("turns", "aa", "slower", "pick", "tools", "ap")
    parser.add_argument("--checks", nargs="+", choices=names, default=names, help="default: all")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checks: dict[str, Callable[[], list[Check]]] = {
            "turns": lambda: in_turn(folder, min(2.0, options.seconds)),
            "aa": lambda: equal_pairs(folder, options.pairs, options.seconds),
            "slower": lambda: slower_pairs(folder, options.pairs, options.seconds),
            "pick": lambda: picks(options.repeats),
            "tools": lambda: against_tools(folder),
            "ap": coverage_of_ap,
        }
        found = []
        for one in (one for one in names if one in options.checks):
            with nullcontext() if one == "turns" else load():
                found += checks[one]()
    print(as_table(found))
    return 0 if all(check.holds for check in found) else 1


if __name__ == "__main__":
    sys.exit(main())
