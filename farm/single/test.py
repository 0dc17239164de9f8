"""`farm test`: run a model over its config's test data set; results are in mmdet's own form."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.cli import writable
from farm.errors import InputError, nearest
from farm.files import atomic
from farm.runtimes import engine_runtimes
from farm.single import bundled, inputs

if TYPE_CHECKING:
    from farm.single.mmdet.drawing import Painter
    from farm.single.runners import Runner


def test(options: argparse.Namespace) -> int:
    """Run `farm test`. Return the exit code.

    Raises:
        InputError: an option, or a file that it names, is wrong.
        StepFailed, FarmError: the model cannot be run, or its results not be evaluated.
    """
    _check(options)
    options.backend = _backend(options)
    from farm.single.mmdet.dataset import (
        image_files,
        label_names,
        log_label_differences,
        open_dataset,
        palette,
    )
    from farm.single.runners import opened
    from farm.sources.mmdet import config

    model = inputs.detector_spec(options, bundled.weights(options.model))
    read = (model.config.path, model.checkpoint.path)
    out = writable.file(options.out, "--out", read) if options.out else None
    settings = config.read(model)
    dataset = open_dataset(settings, model.config.path)
    finish = _finish(options, dataset, settings)
    files = image_files(dataset)
    paint = _painter(options, files)
    with opened(options, model, settings) as runner:
        _require_matching(dataset, runner, options)
        log_label_differences(dataset, runner.facts)
        if paint:
            paint.classes = label_names(dataset, runner.facts)
            paint.palette = palette(dataset, paint.classes)
        results = _results(runner, files, paint)
    if out:
        _dump(results, out)
    if paint and paint.folder:
        print(f"Painted images: {paint.folder}")
    finish(results)
    return 0


def _check(options: argparse.Namespace) -> None:
    """Raise InputError for what MMDetection's test.py asserts, before any work."""
    wanted = (options.out, options.eval, options.format_only, options.show, options.show_dir)
    if not any(wanted):
        raise InputError(
            "specify at least one operation (save, evaluate, format or show the results) with "
            "--out, --eval, --format-only, --show or --show-dir"
        )
    if options.eval and options.format_only:
        raise InputError("--eval and --format-only cannot be both specified")
    if options.out is not None and not options.out.endswith((".pkl", ".pickle")):
        raise InputError("the output file must be a pkl file", "--out")
    if not 0 <= options.show_score_thr <= 1:
        raise InputError(f"{options.show_score_thr}: expected 0 to 1", "--show-score-thr")


def _backend(options: argparse.Namespace) -> str:
    """Return `--backend`, of a bundle the runtime of its engine by default.

    Raises:
        InputError: it is neither `torch` nor a runtime that is installed, or not the bundle's.
    """
    own = bundled.runtime(options.model) if bundled.is_bundle(options.model) else None
    name: str | None = options.backend or own
    if name is None:
        raise InputError("give what runs the model: torch, or a runtime", "--backend")
    if own is not None and name != own:
        raise InputError(f"it is a bundle of {own}: leave --backend out", options.model)
    known = ("torch", *engine_runtimes())
    if name not in known:
        raise InputError(f"{name!r} runs no model here{nearest(name, known)}", "--backend")
    if name != "torch" and own is None:  # a bundle may have something to run without its runtime
        inputs.require_runtime(name, "--backend")
    return name


def _finish(
    options: argparse.Namespace, dataset: Any, settings: Any
) -> Callable[[list[Any]], None]:
    """Return what evaluates or formats the results. Raise InputError now for options it refuses."""
    from farm.single.mmdet import evaluation
    from farm.single.mmdet.dataset import require_evaluable

    chosen = inputs.key_values(options.eval_options, "--eval-options")
    if "jsonfile_prefix" in chosen:
        writable.file(f"{chosen['jsonfile_prefix']}.json", "--eval-options jsonfile_prefix")
    if options.format_only:
        wanted = evaluation.format_options(dataset, chosen)
        evaluation.warn_if_nothing_is_kept(dataset, chosen)
        option = "--eval-options" if chosen else "--format-only"
        return lambda results: _print_files(
            evaluation.call(dataset.format_results, results, wanted, option)
        )
    if options.eval:
        evaluation.require_metrics(dataset, options.eval)
        require_evaluable(dataset, options.eval)
        wanted = evaluation.evaluate_options(dataset, options.eval, settings, chosen)
        option = "--eval-options" if chosen else "--eval"
        return lambda results: _print_figures(
            evaluation.call(
                dataset.evaluate,
                evaluation.for_evaluate(dataset, options.eval, results),
                wanted,
                option,
            )
        )
    return lambda results: None


def _require_matching(dataset: Any, runner: Runner, options: argparse.Namespace) -> None:
    """Raise InputError where the model has other classes than the data set, or no masks."""
    from farm.sources.mmdet.config import as_names

    in_dataset, in_model = len(as_names(dataset.CLASSES)), len(runner.facts.classes)
    if in_dataset != in_model:
        raise InputError(
            f"the model has {in_model} classes, its data set {in_dataset}; name them with "
            "--cfg-options data.test.classes=...",
            options.config,
        )
    if "segm" not in (options.eval or ()):
        return
    if not runner.facts.masks:
        raise InputError("the model has no masks, so there is no segm", "--eval")
    if runner.outputs is not None and "masks" not in runner.outputs:
        raise InputError(
            f"{options.model} has the outputs {', '.join(runner.outputs)} and no masks, so there is"
            " no segm; leave it out, or give a file with the output masks",
            "--eval",
        )


def _painter(options: argparse.Namespace, images: list[tuple[Path, str]]) -> Painter | None:
    if not (options.show or options.show_dir):
        return None
    from farm.single.mmdet.drawing import Painter

    folder = writable.folder(options.show_dir, "--show-dir") if options.show_dir else None
    painter = Painter(options.show_score_thr, folder)
    painter.require_apart(images)
    return painter


def _results(runner: Runner, images: list[tuple[Path, str]], paint: Painter | None) -> list[Any]:
    """Return one result an image, in the data set's order.

    Raises:
        InputError: a file is not an image.
    """
    from rich.console import Console
    from rich.progress import track

    from farm.single.mmdet.evaluation import as_mmdet

    console = Console(file=sys.__stderr__)  # `plain_output` would take its control characters out
    quiet = not console.is_terminal
    results = []
    shown = track(images, "testing", console=console, disable=quiet)
    found_in_each = runner.run(images)
    for (path, name), found in zip(shown, found_in_each, strict=True):
        if paint:
            paint(path, name, found)
        results.append(as_mmdet(found, len(runner.facts.classes)))
    return results


def _dump(results: list[Any], out: Path) -> None:
    import mmcv

    with atomic.replacing(out) as part:
        mmcv.dump(results, str(part), file_format="pkl")
    print(f"Results: {out}")


def _print_figures(figures: dict[str, Any]) -> None:
    for name, value in figures.items():
        print(f"{name}: {value}")


def _print_files(written: Any) -> None:
    """Print which files the data set's `format_results` wrote, if it returns them."""
    files, temporary = written if isinstance(written, tuple) else (written, None)
    if files and temporary is None:
        for path in sorted(set(files.values() if isinstance(files, dict) else files)):
            print(f"Formatted: {path}")
