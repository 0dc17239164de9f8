"""One disturbed sweep: faults drawn by a seed, played, and what must hold afterwards."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chaos import checks
from chaos.checks import Injected
from chaos.faults import FAULTS, KINDS, OF_FOLDERS, OF_SERVICES
from chaos.faults import stores as disks
from chaos.faults.fault import Fault
from chaos.faults.nodes import LOST_RAY
from chaos.lab import Lab
from chaos.moments import Countdown, Moment, drawn
from chaos.places import longest_claim_s
from chaos.scene import NoTarget, Scene
from chaos.steps import descendants
from chaos.sweeps import NAME, Driver

LIMIT_S = 300.0
"""How long a run may take: many times what it does on a busy machine."""

_TARGET_S = 30.0
"""How long a fault waits for something to act on."""

_LOCAL, _REMOTE = 0.2, 0.25
"""The shares of scenarios without a cluster, and with the results in an object store."""

_LIVES = 4
"""How many runs may be disturbed."""


@dataclass
class Planned:
    """A fault that is to come, and what became of it: empty until it has come."""

    fault: Fault
    moment: Moment
    outcome: str = ""


@dataclass
class Report:
    """A scenario and what it came to.

    local: with a Ray of the driver's own. remote: with the results in an object store. problems:
    what did not hold.
    """

    seed: int
    planned: list[Planned]
    local: bool = False
    remote: bool = False
    injected: list[Injected] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    folder: Path = Path()


def drawn_scenario(seed: int, names: Sequence[str] = ()) -> Report:
    """Draw the faults of a scenario, or the moments of these, as what is to be played."""
    rng = random.Random(seed)
    local = not names and rng.random() < _LOCAL
    remote = any(FAULTS[one].service for one in names) if names else rng.random() < _REMOTE
    names = names or _drawn_names(rng, local, remote)
    planned = [
        Planned(FAULTS[name], drawn(rng, len(names) - index, FAULTS[name].between))
        for index, name in enumerate(names)
    ]
    return Report(seed, planned, local, remote)


def _drawn_names(rng: random.Random, local: bool, remote: bool) -> list[str]:
    """Draw faults that can come there, of each kind as likely as of the others."""
    without = (OF_FOLDERS if remote else OF_SERVICES) | ({"node"} if local else set())
    kinds = [kind for kind in KINDS if kind not in without]
    kinds = [rng.choice(kinds) for _ in range(rng.randint(3, 5))]
    if remote:
        kinds[rng.randrange(len(kinds))] = "service"
    return [rng.choice([n for n, f in FAULTS.items() if f.kind == kind]) for kind in kinds]


def play(lab: Lab, report: Report) -> Report:
    """Run a sweep while the scenario's faults come, then to its end, and check what must hold."""
    seed = report.seed
    faults = [one.fault for one in report.planned]
    report.folder = lab.new_folder(f"seed-{seed}")
    place = lab.place(report.folder, report.remote)
    scene = Scene(random.Random(f"acts {seed}"), lab.cluster, report.folder, place)
    scene.local, scene.service = report.local, lab.service if report.remote else None
    scene.tracker = lab.tracker() if any(one.tracker for one in faults) else None
    wanted = any(one.small_disk for one in faults) and not report.remote
    scene.small = wanted and disks.mount(scene.store)
    scene.steps = place.log(lab.reference.stages)
    try:
        _Play(lab, scene, report).run()
    finally:
        scene.steps.close()
        if scene.small:
            disks.unmount(scene.store)
    if not report.problems:
        shutil.rmtree(report.folder, ignore_errors=True)
    return report


class _Play:
    """The runs of one scenario."""

    def __init__(self, lab: Lab, scene: Scene, report: Report) -> None:
        self.lab, self.scene, self.report = lab, scene, report
        self.pending = deque(report.planned)
        assert scene.steps is not None
        self.steps = scene.steps

    def run(self) -> None:
        for _ in range(_LIVES):
            self._disturbed_run()
            if not self.pending:
                break
        ended = time.monotonic()
        self._last_run()
        if checks.left_in(self.scene.place, self.scene.cluster):
            # It was too early to tell the claims of drivers that have died from those that live.
            until = ended + longest_claim_s(self.scene.place) + 1
            time.sleep(max(0.0, until - time.monotonic()))
            self._last_run()
        self._check()

    def _disturbed_run(self) -> None:
        """Run the sweep while faults come, until the driver ends; then those between two runs."""
        first, began = len(self.report.injected), time.monotonic()
        self.scene.begin(*self._words())
        try:
            self._wait(disturbed=True)
        finally:
            self.scene.undo.close()
            for one in self.report.injected[first:]:
                one.ended = time.monotonic() if one.fault.lasts else one.ended
        self._say_ends(began)
        ended = time.monotonic()
        self.lab.note(self.scene.cluster.repair())
        killed = any(one.process.returncode == -signal.SIGKILL for one in self.scene.drivers)
        self._judge(self.report.injected[first:])
        if killed:  # until then a run would be refused
            time.sleep(max(0.0, ended + self.scene.place.expires_s - time.monotonic()))
        while self.pending and self.pending[0].moment.what == "between":
            self._try(self.pending.popleft(), time.monotonic())

    def _last_run(self) -> None:
        """Run the sweep to its end, undisturbed."""
        began = time.monotonic()
        driver = self.scene.begin(*self._words())
        self._wait(disturbed=False)
        self._say_ends(began)
        wanted = self.lab.reference
        if driver.process.returncode != wanted.code:
            self._problem(f"the last run ended with {driver.process.returncode}", driver)
        for problem in checks.different_rows(wanted.rows, self.scene.place.rows(NAME)):
            self._problem(f"in the end, {problem}", driver)
        if self.scene.tracker and checks.complains_of_mlflow(driver.text):
            self._problem("the last run could not write to MLflow", driver)

    def _words(self) -> list[str]:
        """The options of a run: what was recorded as failed because of a fault is tried again."""
        undone = any(one.fault.undone for one in self.report.injected)
        return ["--retry-failed"] if undone else []

    def _wait(self, disturbed: bool) -> None:
        """Wait for the drivers; disturbed: while faults come."""
        until, countdown = time.monotonic() + LIMIT_S, None
        while running := [one for one in self.scene.drivers if one.running]:
            events = self.steps.poll(0.02)
            self.scene.do_due()
            if disturbed and self.pending and any(one.sweep == NAME for one in running):
                countdown = countdown or self._countdown()
                if countdown.is_over(events):
                    self._try(self.pending.popleft(), time.monotonic() + _TARGET_S)
                    countdown = None
            if time.monotonic() > until:
                self._end(running)
        self.steps.poll(0)

    def _countdown(self) -> Countdown:
        done = sum(any(one.published for one in runs) for runs in self.steps.by_key().values())
        return Countdown(self.pending[0].moment, len(self.lab.reference.stages) - done)

    def _try(self, planned: Planned, until: float) -> None:
        """Do the fault, as soon as there is something for it to act on."""
        while True:
            try:
                began = time.monotonic()
                planned.outcome = planned.fault.act(self.scene)
            except NoTarget as error:
                planned.outcome = f"not done: {error}"
                over = not any(one.running for one in self.scene.drivers)
                if over or time.monotonic() >= until:
                    return
                self.steps.poll(0.02)
                self.scene.do_due()
            except AssertionError as error:
                self._problem(str(error))
                return
            else:
                done = Injected(planned.fault, began, time.monotonic(), planned.outcome)
                self.report.injected.append(done)
                self.lab.note(f"{planned.fault.name}: {planned.outcome}")
                return

    def _end(self, drivers: Sequence[Driver]) -> None:
        """End drivers that do not end; their files then say where they were."""
        for driver in drivers:
            driver.send(signal.SIGABRT)
            driver.process.wait(60)
            self._problem(f"a run did not end within {LIMIT_S:.0f} s", driver)

    def _judge(self, injected: Sequence[Injected]) -> None:
        """Check how the disturbed drivers have ended, and their rows."""
        wanted, faults = self.lab.reference, [one.fault for one in injected]
        codes = {wanted.code}.union(*(one.ends for one in faults))
        lost_ray = any(one.ends == LOST_RAY for one in faults)
        for driver in self.scene.drivers:
            late = lost_ray and checks.found_no_cluster(driver.text)
            if driver.process.returncode not in codes and not late:
                self._problem(f"a disturbed run ended with {driver.process.returncode}", driver)
        if not any(one.undone or one.ends for one in faults):
            spared = checks.hit_twice(wanted.rows, self.steps.by_key())
            for sweep in {one.sweep for one in self.scene.drivers}:
                found = self.scene.place.rows(sweep)
                for problem in checks.different_rows(wanted.rows, found, spared):
                    self._problem(f"after the disturbed run of {sweep}, {problem}")
        self.scene.drivers.clear()

    def _check(self) -> None:
        """Check what has stayed, and what was done."""
        scene, reference = self.scene, self.lab.reference
        altered = descendants(reference.store, scene.altered)
        found = checks.unexplained(self.steps.by_key(), self.report.injected, altered)
        with scene.place.store() as store:
            found += checks.altered_artifacts(store, reference.stages)
        found += checks.left_processes(scene.cluster)
        found += checks.left_in(scene.place, scene.cluster)
        found += self.lab.shared_memory.left()
        for problem in found:
            self._problem(problem)

    def _say_ends(self, began: float) -> None:
        codes = ", ".join(f"{one.sweep} {one.process.returncode}" for one in self.scene.drivers)
        self.lab.note(f"run ended after {time.monotonic() - began:.1f} s: {codes}")

    def _problem(self, text: str, driver: Driver | None = None) -> None:
        where = f" ({driver.said})" if driver else ""
        self.report.problems.append(text + where)
