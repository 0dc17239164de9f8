"""What `farm test` runs: PyTorch, an ONNX file, an engine or a bundle, image by image."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from farm import specs
from farm.catalog import RUNTIMES, SOURCES
from farm.detections import Detections, Floats, ImageMeta
from farm.errors import InputError, StepFailed
from farm.preprocess import preparer
from farm.single import bundled, inputs, metadata, steps
from farm.single.inputs import fixed_shape, resized_shape, target_here
from farm.single.metadata import facts_without_weights
from farm.single.verify import as_input_error, as_step_failed
from farm.sources.mmdet.data.test_data import own_scale
from farm.specs import Dims
from farm.stages.inference import Decoding, Outputs, completed, decoding_of, detect

if TYPE_CHECKING:
    from farm.runtimes import Session

log = logging.getLogger(__name__)

Images = Iterable[tuple[Path, str]]
"""Files with the names that their data set gives them."""

Run = Callable[[Images], Iterator[Detections]]


@dataclass(frozen=True)
class Runner:
    """What runs a model image by image.

    run: yields the detections of each file, in pixels of the original images; raises InputError
    for a file that is no image. outputs: the names of the file's outputs; None for PyTorch, or
    where they are not known.
    """

    facts: specs.ModelFacts
    run: Run
    outputs: tuple[str, ...] | None = None


@contextmanager
def opened(options: argparse.Namespace, model: specs.Model, settings: Any) -> Iterator[Runner]:
    """Open `options.model` on `options.backend`. settings: the config.

    Raises:
        InputError: the backend does not run files of this kind.
        StepFailed: the runtime cannot build or run it.
    """
    if bundled.is_bundle(options.model):
        yield bundled.runner(Path(options.model), inputs.threads())
        return
    if options.backend == "torch":
        yield _pytorch(model, resized_shape(own_scale(settings, model.config.path)))
        return
    engine = _engine(options, model, settings)
    facts = facts_without_weights(model)
    with as_step_failed(options.backend):
        runtime = RUNTIMES[options.backend]
        session = runtime.open_engine(engine.folder, engine.options, inputs.threads())
    try:
        run = _run(session, engine, facts, model.checkpoint.path)
        yield Runner(facts, run, engine.outputs)
    finally:
        session.close()


def _pytorch(model: specs.Model, shape: specs.Shape) -> Runner:
    """Return mmdet's own test path as a runner."""
    import torch

    torch.set_num_threads(inputs.threads())
    detector = SOURCES[model.source].adapter().load(model)

    def run(images: Images) -> Iterator[Detections]:
        prepared = _prepared(detector.facts, shape, images)
        return (detector.reference(image, meta) for image, meta in prepared)

    return Runner(detector.facts, run)


def _prepared(
    facts: specs.ModelFacts, shape: specs.Shape, images: Images
) -> Iterator[tuple[Floats, ImageMeta]]:
    """Yield each image as the network takes it.

    Raises:
        InputError: a file is not an image.
    """
    prepare = preparer(facts.pipeline, shape)
    for number, (path, name) in enumerate(images):
        try:
            image, meta = prepare(str(path), number, name)
        except StepFailed as error:
            raise InputError(str(error)) from error
        yield image.astype("float32", copy=False), meta


@dataclass(frozen=True)
class _Engine:
    """prepared: the shape that images are prepared for. outputs: as those of `Runner`."""

    folder: Path
    options: specs.EngineOptions
    prepared: specs.Shape
    outputs: tuple[str, ...] | None


def _engine(options: argparse.Namespace, model: specs.Model, settings: Any) -> _Engine:
    """Return the engine that the file is, or else build one of it."""
    path = Path(model.checkpoint.path)
    store = steps.open_store(options.results)
    if found := steps.find_artifact(store, "build", path):
        built = _built_options(found, options.backend, path)
        folder = store.files(found.ref) / "engine"
        exported = specs.Ref(**found.record.inputs["exported"])
    else:
        built = _options_for(path, options.backend, settings, model.config.path)
        exported = steps.import_onnx(path, store, options.retry_failed)
        target = target_here(built.runtime)
        folder = steps.build_engine(path, exported, built, target, store, options.retry_failed)
        log.info(f"Engine: {folder}")
    file = store.files(exported) / "model.onnx" if store.holds(exported) else None
    outputs = metadata.onnx_outputs(file) if file and file.is_file() else None
    if not built.shape.dynamic_size:
        return _Engine(folder, built, fixed_shape(built.shape.opt), outputs)
    scale = own_scale(settings, model.config.path) or built.shape.opt
    return _Engine(folder, built, replace(built.shape, opt=scale), outputs)


def _options_for(path: Path, backend: str, settings: Any, where: str) -> specs.EngineOptions:
    """Return the options of an engine for the ONNX file's own size, or else for the config's."""
    try:
        file = metadata.onnx_extent(path)
    except InputError as error:
        raise InputError(
            f"{error.message}; nor is it an engine of this store (of one from elsewhere, give the"
            " folder that `farm bundle` wrote)",
            error.where,
        ) from None
    if file.size:
        shape = fixed_shape(Dims(file.n or 1, 3, *file.size))
    else:
        shape = resized_shape(own_scale(settings, where), file.n or 1)
    return specs.EngineOptions(backend, "fp32", shape)


def _built_options(found: steps.FoundArtifact, backend: str, path: Path) -> specs.EngineOptions:
    """Return the options that the engine was built with, from its record."""
    kept = found.record.inputs["options"]
    if kept["runtime"] != backend:
        raise InputError(
            f"it is an engine of {kept['runtime']}: give --backend {kept['runtime']}", str(path)
        )
    bounds = {end: Dims(**kept["shape"][end]) for end in ("min", "opt", "max")}
    return specs.EngineOptions(
        kept["runtime"],
        kept["precision"],
        specs.Shape("built", **bounds),
        kept["workspace_bytes"],
        tuple((name, value) for name, value in kept["options"]),
    )


def _run(session: Session, engine: _Engine, facts: specs.ModelFacts, where: str) -> Run:
    decoding = decoding_of(facts, facts.clips_boxes)
    boxes = _Boxes(session, engine.options.runtime, decoding, where)

    def run(images: Images) -> Iterator[Detections]:
        size = engine.options.shape.min.n
        prepared = _prepared(facts, engine.prepared, images)
        batches = ((np.stack([image] * size), [meta]) for image, meta in prepared)
        with as_input_error(where):
            yield from detect(boxes, batches, decoding)

    return run


@dataclass(frozen=True)
class _Boxes:
    """A session of any file, which names the runtime in its errors and refuses raw outputs."""

    session: Session
    runtime: str
    decoding: Decoding
    where: str

    def run(self, images: Floats) -> Outputs:
        """Run a batch [N, 3, H, W].

        Raises:
            StepFailed: the runtime cannot run it.
            InputError: the outputs are raw, or do not fit the config.
        """
        with as_step_failed(self.runtime):
            outputs = completed(self.session.run(images), self.decoding)
        if "dets" not in outputs:
            raise InputError(
                "it ends at raw outputs and finds no boxes; export it without --skip-postprocess",
                self.where,
            )
        return outputs
