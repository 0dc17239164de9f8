"""`make chaos`: plays scenarios until so many faults were injected.

python -m chaos --seed 1 --faults 200       one line per fault
python -m chaos --seed 17 --faults 1        scenario 17 once more
python -m chaos --seed 17 --only node-killed --faults 1
"""

from __future__ import annotations

import argparse
import sys
import time

from chaos.faults import FAULTS
from chaos.lab import opened
from chaos.scenario import Report, drawn_scenario, play


def main() -> int:
    """Play the scenarios; return 1 if something did not hold."""
    options = _parser().parse_args()
    names = options.only.split(",") if options.only else []
    if unknown := [name for name in names if name not in FAULTS]:
        sys.exit(f"no fault {unknown[0]}; expected of: {', '.join(FAULTS)}")
    count, bad, began = 0, list[Report](), time.monotonic()
    with opened(_say, lambda: bool(bad), options.verbose) as lab:
        seed = options.seed
        while count < options.faults and time.monotonic() - began < options.minutes * 60:
            report = play(lab, drawn_scenario(seed, names))
            count += len(report.injected)
            _show(report, names)
            bad += [report] if report.problems else []
            seed += 1
    _say(
        f"{count} faults in {seed - options.seed} sweeps, {len(bad)} sweeps did not hold; "
        f"{(time.monotonic() - began) / 60:.1f} minutes; the next seed is {seed}"
    )
    return 1 if bad else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the first scenario")
    parser.add_argument("--faults", type=int, default=200, help="how many are to be injected")
    parser.add_argument("--minutes", type=float, default=600, help="begin no scenario after these")
    parser.add_argument("--only", default="", help="these faults, in this order: NAME,NAME,...")
    parser.add_argument("-v", "--verbose", action="store_true", help="show what happens when")
    return parser


def _show(report: Report, names: list[str]) -> None:
    for one in report.planned:
        done = one.outcome or "not done: the sweep ended before"
        state = "FAILED" if report.problems else "ok"
        place = ("own Ray" if report.local else "cluster") + (", S3" if report.remote else "")
        _say(f"{report.seed:5} {place:11} {one.fault.name:22} {one.moment!s:28} {done:70} {state}")
    for problem in report.problems:
        _say(f"      {problem}")
    if report.problems:
        more = f" CHAOS='--only {','.join(names)}'" if names else ""
        _say(f"      again: make chaos SEED={report.seed} FAULTS=1{more}")


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
