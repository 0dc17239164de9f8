"""Open the engine of a step, whichever runtime it is of and wherever its graph ends."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from farm.catalog import RUNTIMES, SOURCES
from farm.detections.suppress import suppress
from farm.runtimes import Concurrent, DeviceTimed, Graphed, Session

if TYPE_CHECKING:
    from farm.specs import Engine, Suppression
    from farm.stages import Context

log = logging.getLogger(__name__)


@contextmanager
def opened(
    engine: Engine, context: Context, threads: int, suppresses: bool = True
) -> Iterator[Session]:
    """Open an engine, with the suppression on the host as part of `run` where there is one.

    suppresses: False leaves that to the caller.

    Raises:
        StepFailed: the engine cannot be opened.
        TransientFailure: this machine has not what the engine needs, or memory ran out.
    """
    runtime = RUNTIMES[engine.options.runtime]
    if engine.built is not None:
        folder = context.artifact(engine.built) / "engine"
        session = runtime.open_engine(folder, engine.options, threads)
    else:
        assert engine.model is not None
        detector = SOURCES[engine.model.source].adapter().load(engine.model)
        session = runtime.open_module(detector.graph(engine.postprocess), threads)
    if suppresses and engine.suppression is not None:
        session = Suppressing(session, engine.suppression)
    log.debug("opened an engine of %s on %d cores", engine.options.runtime, threads)
    try:
        yield session
    finally:
        session.close()


@dataclass(frozen=True)
class Suppressing:
    """A session whose graph ends at the candidates, followed by their suppression."""

    session: Session
    how: Suppression

    def run(self, images: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[Any]]:
        """Run the session and suppress its candidates."""
        return suppress(self.session.run(images), self.how)

    def close(self) -> None:
        """Close the session."""
        self.session.close()


def device_time_ms(session: Session) -> float | None:
    """Return how long the accelerator alone took in the last run; None where that is unknown."""
    inner = _inner(session)
    return inner.device_time_ms() if isinstance(inner, DeviceTimed) else None


def uses_cuda_graph(session: Session) -> bool | None:
    """Whether a run is one CUDA graph; None where the runtime has none."""
    inner = _inner(session)
    return inner.uses_cuda_graph if isinstance(inner, Graphed) else None


def runs_concurrently(session: Session) -> bool:
    """Return whether `concurrent` can open it for several requests at once."""
    return isinstance(_inner(session), Concurrent)


@contextmanager
def concurrent(session: Session, streams: int) -> Iterator[Sequence[Session]]:
    """Open an engine for so many requests at once, with the suppression as in its session."""
    inner = _inner(session)
    if streams == 1 or not isinstance(inner, Concurrent):
        yield [session]
        return
    own = inner.concurrent(streams)
    try:
        if isinstance(session, Suppressing):
            yield [replace(session, session=one) for one in own]
        else:
            yield own
    finally:
        for one in own:
            one.close()


def _inner(session: Session) -> Session:
    return session.session if isinstance(session, Suppressing) else session


def includes(engine: Engine) -> str:
    """Return what a run has beside the network, which latencies therefore include.

    A run goes from images in the host's memory to outputs in the host's memory. Preparing images
    and pasting masks are in none.
    """
    after = {"graph": ", postprocessing in the graph", "none": ""}
    host = ", suppression on the host" if engine.suppression else ""
    return f"copies{after.get(engine.postprocess, host)}"


def batch_size(engine: Engine) -> int:
    """Return how many images run at once over a data set: the smallest batch of the profile."""
    return engine.options.shape.min.n
