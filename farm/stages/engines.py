"""Open the engine of a step, whichever runtime it is of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from farm.inputs import Engine
from farm.runtimes import Session, runtime_module
from farm.sources import source_module
from farm.stages import Context


@contextmanager
def opened(engine: Engine, context: Context, threads: int) -> Iterator[Session]:
    module = runtime_module(engine.options.runtime)
    if engine.built is not None:
        folder = context.artifact(engine.built) / "engine"
        session: Session = module.open_engine(folder, engine.options, threads)
    else:
        assert engine.model is not None
        detector = source_module(engine.model.source).load(engine.model)
        session = module.open_module(detector.graph(), threads)
    try:
        yield session
    finally:
        session.close()


def batch_size(engine: Engine) -> int:
    """Images per run when a data set passes through: the fewest that it takes."""
    return engine.options.shape.min.n
