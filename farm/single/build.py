"""`farm build`: an ONNX file to an engine of one runtime, as a sweep would build it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from farm import specs
from farm.cli import writable
from farm.errors import InputError
from farm.plan.content.files import plain_file
from farm.single import inputs, metadata, steps
from farm.specs import Dims

if TYPE_CHECKING:
    from farm.runtimes import Runtime
    from farm.store import Store

DEFAULT_SHAPE = (400, 600)


def build(options: argparse.Namespace) -> int:
    """Run `farm build`. Return the exit code: 1 if --verify finds a difference.

    Raises:
        InputError: an option, or a file that it names, is wrong.
        StepFailed, FarmError: the runtime cannot build the engine.
    """
    runtime = inputs.require_runtime(options.runtime, "--runtime")
    image = inputs.image_path(options.input_img, "--input-img")
    path = Path(plain_file("ONNX file", options.model, Path.cwd()).path)
    model = inputs.detector_spec(options, options.model)
    output = writable.file(options.trt_file, "--trt-file", (model.config.path, path, image))
    shape = _shape(options, metadata.onnx_extent(path))
    store = steps.open_store(options.results)
    exported = steps.import_onnx(path, store, options.retry_failed)
    settings = _settings(options, runtime, shape)
    target = _target(options)
    folder = steps.build_engine(path, exported, settings, target, store, options.retry_failed)
    engine = sole_file(folder)
    steps.copy_artifact(engine, output)
    print(f"Engine: {output}")
    print(f"In the store: {engine}")
    if not options.verify:
        return 0
    return 0 if _verified(model, store, exported, folder, settings, image, options.show) else 1


def _target(options: argparse.Namespace) -> specs.Target:
    if options.compute_capability:
        return inputs.target_elsewhere(options.runtime, options.compute_capability)
    return inputs.target_here(options.runtime)


def sole_file(folder: Path) -> Path:
    """Return the one file of an engine, notes about it aside.

    Raises:
        InputError: the engine is several files.
    """
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".json"]
    if len(files) != 1:
        raise InputError(f"its engine is {len(files)} files; take them from there", str(folder))
    return files[0]


def _shape(options: argparse.Namespace, file: metadata.OnnxExtent) -> specs.Shape:
    """Return --shape, --min-shape and --max-shape as a profile that the file takes."""
    opt = inputs.image_size(options.shape or file.size or DEFAULT_SHAPE, "--shape")
    low = inputs.image_size(options.min_shape, "--min-shape") if options.min_shape else opt
    high = inputs.image_size(options.max_shape, "--max-shape") if options.max_shape else opt
    if not (low.h <= opt.h <= high.h and low.w <= opt.w <= high.w):
        raise InputError(
            f"--min-shape <= --shape <= --max-shape does not hold for {low.h}x{low.w}, "
            f"{opt.h}x{opt.w}, {high.h}x{high.w}"
        )
    low, opt, high = (Dims(file.n or 1, 3, size.h, size.w) for size in (low, opt, high))
    for size in (low, opt, high):
        if file.excludes(size):
            raise InputError(
                f"the ONNX file takes {file} only, not {size}; export it with --dynamic-export",
                options.model,
            )
    sizes = dict.fromkeys(f"{size.h}x{size.w}" for size in (low, opt, high))
    return specs.Shape("-".join(sizes), low, opt, high)


def _settings(
    options: argparse.Namespace, runtime: Runtime, shape: specs.Shape
) -> specs.EngineOptions:
    if not 1 <= options.workspace_size <= 1024:
        raise InputError(f"{options.workspace_size}: expected 1 to 1024 GiB", "--workspace-size")
    workspace = options.workspace_size << 30 if runtime.workspaces else None
    return specs.EngineOptions(options.runtime, "fp32", shape, workspace)


def _verified(
    model: specs.Model,
    store: Store,
    exported: specs.Ref,
    folder: Path,
    settings: specs.EngineOptions,
    image: Path | None,
    show: bool,
) -> bool:
    """Return whether the engine agrees with ONNX Runtime on the ONNX file as it is."""
    from farm.single.metadata import facts_without_weights, without_flip
    from farm.single.verify import engine_run, verify

    inputs.require_runtime("onnxruntime")
    facts = facts_without_weights(without_flip(model))
    plain = specs.EngineOptions("onnxruntime", "fp32", settings.shape)
    short = "trt" if settings.runtime == "tensorrt" else settings.runtime
    return verify(
        engine_run("ONNX Runtime", store.files(exported), plain, facts),
        engine_run(f"the {settings.runtime} engine", folder, settings, facts),
        dict.fromkeys((settings.shape.opt, settings.shape.min, settings.shape.max)),
        image,
        facts,
        ("show-ort.png", f"show-{short}.png") if show else None,
    )
