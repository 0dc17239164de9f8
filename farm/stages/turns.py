"""An open engine that takes turns with others, for `compare`."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from farm.datasets.prepared import Prepared
from farm.stages.engines import opened
from farm.stages.measure import fitted

if TYPE_CHECKING:
    from farm.detections import Floats
    from farm.runtimes import Session
    from farm.specs import Entrant
    from farm.stages import Context

_RUNS, MOST_RUNS = 3, 50
"""How many runs the fastest engine has in its turn, and how many a turn has at most."""

_TURN_S = 0.006
"""A turn takes at least so long: an engine of less than 2 ms has more runs."""

_SLOW_S = 0.1
"""From this time of a run on, an engine runs once in its turn."""

_MUCH_SLOWER = 4.0
"""An engine that takes so many times as long as the fastest needs no warm caches to be told."""


@dataclass
class Timed:
    """An open engine that takes turns. samples: the time of each run in ms. seconds: about that of
    one run.

    The first run of a turn is not timed, since another engine has used the caches before.
    """

    session: Session
    images: Floats
    samples: list[float] = field(default_factory=list)
    seconds: float = 0.0
    runs: int = _RUNS
    untimed: bool = True

    def __call__(self) -> float:
        """Take a turn, and return the median time of a run in ms."""
        if self.untimed:
            self.session.run(self.images)
        own = [self._timed() for _ in range(self.runs)]
        self.samples += own
        return float(np.median(own))

    def warm_up(self) -> None:
        """Run a few times, and see how long a run takes."""
        self._timed()
        self.seconds = max(min(self._timed() for _ in range(2)) / 1e3, 1e-6)
        self.fit(self.seconds)

    def fit(self, fastest_s: float) -> None:
        """Choose the runs of a turn, so that a slow engine takes no more of the time than others.

        fastest_s: the time of a run of the fastest engine that it is compared with.
        """
        turn_s = max(_TURN_S, _RUNS * fastest_s)
        fitting = math.ceil(turn_s / self.seconds - 1e-9)
        self.runs = 1 if self.seconds >= _SLOW_S else min(max(1, fitting), MOST_RUNS)
        self.untimed = self.seconds < min(_SLOW_S, _MUCH_SLOWER * fastest_s)

    def _timed(self) -> float:
        before = time.perf_counter_ns()
        self.session.run(self.images)
        return (time.perf_counter_ns() - before) / 1e6


@contextmanager
def open_here(entrant: Entrant, context: Context, threads: int) -> Iterator[Timed]:
    """Open an engine in this process and warm it up.

    Raises:
        StepFailed: the engine cannot be opened.
        TransientFailure: this machine has not what the engine needs, or memory ran out.
    """
    shape = entrant.engine.options.shape.opt
    images = fitted(Prepared(context.artifact(entrant.prepared)), shape)
    with opened(entrant.engine, context, threads) as session:
        timed = Timed(session, images)
        timed.warm_up()
        yield timed
