"""The tools' options, with MMDetection's names, meanings and defaults; imports nothing heavy."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from farm.catalog import OPSETS
from farm.run import PLACE
from farm.terminal import logs

if TYPE_CHECKING:
    from farm.run import Command

log = logging.getLogger(__name__)

_KEY_VALUE = (
    'as in MMDetection: a list is key="[a,b]" or key=a,b, nested key="[(a,b),(c,d)]", '
    "without white space"
)
_CONFIGS = "the config says how images are prepared, and which data set it is"
_DEPRECATED = f"are accepted with a warning, as MMDetection does: {_CONFIGS}."


def _export(options: argparse.Namespace) -> int:
    from farm.single.export import export

    return export(options)


def _build(options: argparse.Namespace) -> int:
    from farm.single.build import build

    return build(options)


def _test(options: argparse.Namespace) -> int:
    from farm.single.test import test

    return test(options)


def add_export(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `farm export`."""
    _in_child(parser, _export)
    add = parser.add_argument
    add("config", help="a path, or a config that mmdet ships")
    add("checkpoint", help="its weights")
    add("--output-file", default="tmp.onnx", metavar="FILE", help="(default: tmp.onnx)")
    add(
        "--input-img",
        metavar="FILE",
        help="the image that --verify uses if --test-img is not given",
    )
    _add_shape(parser, (800, 1216), "input size: height and width, or one number for a square")
    add(
        "--test-img",
        metavar="FILE",
        help="the image that --verify uses (default: one that is drawn, by seed)",
    )
    add(
        "--opset-version",
        type=int,
        default=11,
        metavar="N",
        help=f"{OPSETS[0]} to {OPSETS[-1]} (default: 11)",
    )
    _add_settings(parser, "--cfg-options", f"settings that replace the config's, {_KEY_VALUE}")
    add("--dynamic-export", action="store_true", help="leave batch, height and width free")
    add("--show", action="store_true", help="print the graph; with --verify also draw both results")
    add(
        "--verify",
        action="store_true",
        help="compare ONNX Runtime with PyTorch; exit code 1 if they differ",
    )
    add("--simplify", action="store_true", help="simplify the graph with onnxslim")
    add("--skip-postprocess", action="store_true", help="end the graph at the heads' raw outputs")
    _add_pickle(parser)
    _add_store(parser)
    _add_unused(parser)


def add_build(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `farm build`."""
    _in_child(parser, _build)
    add = parser.add_argument
    add("config", help="a path, or a config that mmdet ships")
    add("model", help="an ONNX file, of `farm export` or any other")
    add("--trt-file", default="tmp.trt", metavar="FILE", help="(default: tmp.trt)")
    add("--runtime", default="tensorrt", help="the runtime to build for (default: tensorrt)")
    add(
        "--input-img",
        metavar="FILE",
        help="the image that --verify uses (default: one that is drawn, by seed)",
    )
    _add_shape(
        parser,
        None,
        "input size that the engine is tuned for: height and width, or one number for a square "
        "(default: 400 600, or the file's own size if that is fixed)",
    )
    for end in ("min", "max"):
        _add_numbers(parser, f"--{end}-shape", None, f"{end}imum input size (default: --shape)")
    _add_settings(
        parser,
        "--cfg-options",
        "the settings that the file was exported with; --verify reads the config",
    )
    add("--workspace-size", type=int, default=1, metavar="GIB", help="in GiB (default: 1)")
    add(
        "--compute-capability",
        metavar="N.N",
        help="of the GPU to build for, if the runtime can build without it (default: this GPU's)",
    )
    add("--show", action="store_true", help="with --verify, draw both results")
    add(
        "--verify",
        action="store_true",
        help="compare the engine with ONNX Runtime; exit code 1 if they differ",
    )
    _add_store(parser)
    _add_unused(parser, "--to-rgb")


def add_test(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `farm test`."""
    _in_child(parser, _test)
    add = parser.add_argument
    add("config", help="a path, or a config that mmdet ships")
    add(
        "model",
        help="an ONNX file, an engine of `farm build` or a folder of `farm bundle`; for torch a"
        " checkpoint",
    )
    add(
        "--backend",
        metavar="RUNTIME",
        help="what runs the model: torch, or a runtime with engines, such as onnxruntime (default:"
        " that of the bundle; all others need it)",
    )
    add(
        "--out",
        metavar="FILE",
        help="write the results for mmdet's tools to this .pkl or .pickle file",
    )
    add(
        "--format-only",
        action="store_true",
        help="write results in the data set's own format, and do not evaluate them",
    )
    add(
        "--eval",
        nargs="+",
        metavar="METRIC",
        help="bbox, segm, proposal for COCO; mAP, recall for Pascal VOC",
    )
    add(
        "--show",
        action="store_true",
        help="show results in windows; without a display, draw into the folder `show`",
    )
    add("--show-dir", metavar="DIR", help="the folder for images with results drawn over them")
    add(
        "--show-score-thr",
        type=float,
        default=0.3,
        metavar="SCORE",
        help="draw what scores at least this (default: 0.3)",
    )
    _add_settings(parser, "--cfg-options", f"settings that replace the config's, {_KEY_VALUE}")
    _add_settings(
        parser, "--eval-options", "arguments of the data set's evaluate or format_results"
    )
    add("--options", nargs="+", action=_Renamed, dest="eval_options", help=argparse.SUPPRESS)
    _add_pickle(parser)
    _add_store(parser)


def _in_child(parser: argparse.ArgumentParser, command: Command) -> None:
    """Run the command in a child process: it runs a model's code and runtimes beside its steps."""
    parser.set_defaults(command=command, in_child=True)


def _add_numbers(
    parser: argparse.ArgumentParser, name: str, default: Sequence[int] | None, text: str
) -> None:
    parser.add_argument(name, type=int, nargs="+", default=default, metavar="PIXELS", help=text)


def _add_shape(parser: argparse.ArgumentParser, default: Sequence[int] | None, text: str) -> None:
    shown = f" (default: {' '.join(map(str, default))})" if default else ""
    _add_numbers(parser, "--shape", default, text + shown)


def _add_settings(parser: argparse.ArgumentParser, name: str, text: str) -> None:
    parser.add_argument(name, nargs="+", default=[], metavar="KEY=VALUE", help=text)


def _add_pickle(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--allow-pickle",
        action="store_true",
        help="load a checkpoint that has other objects than weights, which can run code",
    )


def _add_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--results", metavar="PLACE", help=f"{PLACE}; their store is used")
    parser.add_argument(
        "--retry-failed", action="store_true", help="try what is recorded as failed again"
    )


class _Unused(argparse.Action):
    """Accepts an option that MMDetection deprecated, and warns that the config is used instead."""

    def __call__(self, parser: object, namespace: object, values: object, *_: object) -> None:
        _warn(f"{self.option_strings[0]} is deprecated and not used: {_CONFIGS}")


class _Renamed(argparse.Action):
    """Accepts an option by its old name, with a warning, and sets the one that `dest` names."""

    def __call__(
        self, parser: object, namespace: argparse.Namespace, values: object, *_: object
    ) -> None:
        _warn(f"{self.option_strings[0]} is deprecated: write --{self.dest.replace('_', '-')}")
        setattr(namespace, self.dest, values)


def _warn(text: str) -> None:
    logs.configure()  # the command, which sets the level, has not begun
    log.warning(f"farm: warning: {text}")


def _add_unused(parser: argparse.ArgumentParser, *switches: str) -> None:
    """Add the options that MMDetection deprecated. switches: those without a value."""
    parser.add_argument("--dataset", action=_Unused, help=argparse.SUPPRESS)
    for name in ("--mean", "--std"):
        parser.add_argument(name, type=float, nargs="+", action=_Unused, help=argparse.SUPPRESS)
    for name in switches:
        parser.add_argument(name, nargs=0, action=_Unused, help=argparse.SUPPRESS)
    unused = f"{', '.join(['--dataset, --mean, --std', *switches])} {_DEPRECATED}"
    parser.epilog = "\n\n".join(filter(None, [unused, parser.epilog]))
