"""`farm test`: a model over its config's test data set, its results in mmdet's own form."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm import writable
from farm.errors import InputError, StepFailed, nearest
from farm.runtimes import engine_runtimes
from farm.single import words, work

if TYPE_CHECKING:
    from farm.detections import Floats, ImageMeta
    from farm.single.painter import Painter
    from farm.single.runners import Runner


def test(options: argparse.Namespace) -> int:
    """Returns the exit code."""
    _check(options)
    _require_backend(options.backend)
    from farm.single import dataset as datasets
    from farm.single import names, runners
    from farm.sources.mmdet import config

    model = words.detector(options, options.model)
    read = (model.config.path, model.checkpoint.path)
    out = writable.file(options.out, "--out", read) if options.out else None
    settings = config.read(model)
    dataset = datasets.open_dataset(settings, model.config.path)
    finish = _finish(options, dataset, settings)
    images = datasets.images(dataset)
    paint = _painter(options, images)
    with runners.opened(options, model, settings) as runner:
        _require_fit(dataset, runner, options)
        names.say_differences(dataset, runner.facts)
        if paint:
            paint.classes = names.of_labels(dataset, runner.facts)
            paint.palette = names.palette(dataset, paint.classes)
        results = _results(runner, images, paint)
    if out:
        _dump(results, out)
    if paint and paint.folder:
        print(f"Painted images: {paint.folder}")
    finish(results)
    return 0


def _check(options: argparse.Namespace) -> None:
    """What MMDetection's test.py asserts, before any work."""
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


def _require_backend(name: str) -> None:
    """Raise InputError for what is neither `torch` nor a runtime that is installed."""
    known = ("torch", *engine_runtimes())
    if name not in known:
        raise InputError(f"{name!r} runs no model here{nearest(name, known)}", "--backend")
    if name != "torch":
        work.require_runtime(name, "--backend")


def _finish(
    options: argparse.Namespace, dataset: Any, settings: Any
) -> Callable[[list[Any]], None]:
    """What becomes of the results; what is wrong with it is told now, before the work."""
    from farm.single import annotated, evaluation

    chosen = words.key_values(options.eval_options, "--eval-options")
    if "jsonfile_prefix" in chosen:
        writable.file(f"{chosen['jsonfile_prefix']}.json", "--eval-options jsonfile_prefix")
    if options.format_only:
        wanted = evaluation.format_options(dataset, chosen)
        evaluation.warn_of_nothing_kept(dataset, chosen)
        asked = "--eval-options" if chosen else "--format-only"
        return lambda results: _say_where(
            evaluation.told(dataset.format_results, results, wanted, asked)
        )
    if options.eval:
        evaluation.require_metrics(dataset, options.eval)
        annotated.require_evaluable(dataset, options.eval)
        wanted = evaluation.evaluate_options(dataset, options.eval, settings, chosen)
        asked = "--eval-options" if chosen else "--eval"
        return lambda results: _print(
            evaluation.told(
                dataset.evaluate,
                evaluation.as_evaluated(dataset, options.eval, results),
                wanted,
                asked,
            )
        )
    return lambda results: None


def _require_fit(dataset: Any, runner: Runner, options: argparse.Namespace) -> None:
    from farm.sources.mmdet.config import as_names

    theirs, ours = len(as_names(dataset.CLASSES)), len(runner.facts.classes)
    if theirs != ours:
        raise InputError(
            f"the model has {ours} classes, its data set {theirs}; name them with --cfg-options "
            "data.test.classes=...",
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
    from farm.single.painter import Painter

    folder = writable.folder(options.show_dir, "--show-dir") if options.show_dir else None
    painter = Painter(options.show_score_thr, folder)
    painter.require_apart(images)
    return painter


def _results(runner: Runner, images: list[tuple[Path, str]], paint: Painter | None) -> list[Any]:
    """One result an image, in the data set's order. Raises InputError for what is no image."""
    from rich.console import Console
    from rich.progress import track

    from farm.single.results import as_mmdet

    console = Console(file=sys.__stderr__)  # its own control characters are meant
    quiet = not console.is_terminal
    results = []
    shown = track(images, "testing", console=console, disable=quiet)
    found_in_each = runner.run(_prepared(runner, images))
    for (path, name), found in zip(shown, found_in_each, strict=True):
        if paint:
            paint(path, name, found)
        results.append(as_mmdet(found, len(runner.facts.classes)))
    return results


def _prepared(
    runner: Runner, images: Iterable[tuple[Path, str]]
) -> Iterator[tuple[Floats, ImageMeta]]:
    """Yield each image as the network takes it. Raises InputError for what is no image."""
    from farm.preprocess import preparer

    prepare = preparer(runner.facts.pipeline, runner.shape)
    for number, (path, name) in enumerate(images):
        try:
            image, meta = prepare(str(path), number, name)
        except StepFailed as error:
            raise InputError(str(error)) from error
        yield image.astype("float32", copy=False), meta


def _dump(results: list[Any], out: Path) -> None:
    import mmcv

    with work.whole(out) as part:
        mmcv.dump(results, str(part), file_format="pkl")
    print(f"Results: {out}")


def _print(figures: dict[str, Any]) -> None:
    for name, value in figures.items():
        print(f"{name}: {value}")


def _say_where(written: Any) -> None:
    """What the data set's `format_results` says of its files, if it says anything."""
    files, temporary = written if isinstance(written, tuple) else (written, None)
    if files and temporary is None:
        for path in sorted(set(files.values() if isinstance(files, dict) else files)):
            print(f"Formatted: {path}")
