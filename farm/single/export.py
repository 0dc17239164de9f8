"""`farm export`: one detector to a standard ONNX file, as a sweep would make it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from farm import specs
from farm.catalog import OPSETS, SOURCES
from farm.cli import writable
from farm.errors import InputError
from farm.files import atomic
from farm.single import exported, inputs, steps
from farm.single.inputs import fixed_shape, free_shape
from farm.specs import Dims


def export(options: argparse.Namespace) -> int:
    """Run `farm export`. Return the exit code: 1 if --verify finds a difference.

    Raises:
        InputError: an option, or a file that it names, is wrong.
        StepFailed, FarmError: the model cannot be exported.
    """
    size = inputs.image_size(options.shape, "--shape")
    if options.opset_version not in OPSETS:
        raise InputError(
            f"{options.opset_version}: expected {OPSETS[0]} to {OPSETS[-1]}", "--opset-version"
        )
    test_img = inputs.image_path(options.test_img, "--test-img")
    input_img = inputs.image_path(options.input_img, "--input-img")
    model = inputs.detector_spec(options, options.checkpoint)
    read = (model.config.path, model.checkpoint.path, test_img, input_img)
    output = writable.file(options.output_file, "--output-file", read)
    store = steps.open_store(options.results)
    checked = steps.check_detector(model, store, options.retry_failed)
    values = specs.ExportInputs(
        checked.model,
        free_shape(None, None, None, size) if options.dynamic_export else fixed_shape(size),
        options.opset_version,
        "none" if options.skip_postprocess else "graph",
        options.simplify,
    )
    folder = steps.export_onnx(checked, values, store, options.retry_failed)
    atomic.write(output, exported.described(folder / "model.onnx", values, checked.facts))
    print(f"ONNX file: {output}")
    print(f"In the store: {folder / 'model.onnx'}")
    if options.show:
        _print_graph(folder / "model.onnx")
    image = test_img or input_img
    return 0 if not options.verify or _verified(values, folder, image, options.show) else 1


def _print_graph(path: Path) -> None:
    """Print the graph as ONNX writes it, without the weights' values, which are millions."""
    import onnx

    model = onnx.load(path)
    for weights in model.graph.initializer:
        for values in ("raw_data", "float_data", "int32_data", "int64_data", "double_data"):
            weights.ClearField(values)
    print(onnx.printer.to_text(model))


def _verified(values: specs.ExportInputs, folder: Path, image: Path | None, show: bool) -> bool:
    """Return whether ONNX Runtime agrees with PyTorch on the file as it is, at every size."""
    from farm.single.verify import engine_run, pytorch_run, verify

    inputs.require_runtime("onnxruntime")
    detector = SOURCES[values.model.source].adapter().load(values.model)
    options = specs.EngineOptions("onnxruntime", "fp32", values.shape)
    return verify(
        pytorch_run(detector, raw=values.postprocess == "none"),
        engine_run("ONNX Runtime", folder, options, detector.facts),
        _sizes(values.shape),
        image,
        detector.facts,
        ("show-pt.png", "show-ort.png") if show else None,
    )


def _sizes(shape: specs.Shape) -> Iterator[Dims]:
    """Yield the traced size, and for a dynamic file a batch of two half as large again."""
    yield shape.opt
    if shape.dynamic:
        height, width = (int(edge * 1.5) // 32 * 32 for edge in (shape.opt.h, shape.opt.w))
        yield Dims(2, 3, min(height, 1344), min(width, 1344))
