"""The tools' options: names, meanings and defaults of MMDetection's; imports nothing heavy."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Sequence
from typing import Any

from farm import logs
from farm.catalog import OPSETS

log = logging.getLogger(__name__)

Command = Callable[[str, Any, str], argparse.ArgumentParser]

_KEY_VALUE = (
    'as in MMDetection: a list is key="[a,b]" or key=a,b, nested key="[(a,b),(c,d)]", '
    "without white space"
)
_CONFIGS = "the config says how images are prepared, and which data set it is"
_TAKEN = f"are taken with a warning, as MMDetection does: {_CONFIGS}."


def add_commands(command: Command) -> None:
    """`command` makes the parser of one command from its name, function and text."""
    _add_export(command("export", _export, "CONFIG and CHECKPOINT to a standard ONNX file"))
    _add_build(command("build", _build, "an ONNX file to an engine"))
    _add_test(command("test", _test, "run a model over its config's test data set"))


def _export(options: argparse.Namespace) -> int:
    from farm.single.export import export

    return export(options)


def _build(options: argparse.Namespace) -> int:
    from farm.single.build import build

    return build(options)


def _test(options: argparse.Namespace) -> int:
    from farm.single.test import test

    return test(options)


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", help="a path, or a config that mmdet ships")
    parser.add_argument("checkpoint", help="its weights")
    parser.add_argument(
        "--output-file", default="tmp.onnx", metavar="FILE", help="(default: tmp.onnx)"
    )
    parser.add_argument(
        "--input-img", metavar="FILE", help="the image of --verify where no --test-img is given"
    )
    _add_shape(parser, (800, 1216), "input size: height and width, or one number for a square")
    parser.add_argument(
        "--test-img", metavar="FILE", help="the image of --verify (default: one drawn by seed)"
    )
    parser.add_argument(
        "--opset-version",
        type=int,
        default=11,
        metavar="N",
        help=f"{OPSETS[0]} to {OPSETS[-1]} (default: 11)",
    )
    _add_words(parser, "--cfg-options", f"settings over the config's, {_KEY_VALUE}")
    parser.add_argument(
        "--dynamic-export", action="store_true", help="free batch, height and width"
    )
    parser.add_argument(
        "--show", action="store_true", help="print the graph; with --verify draw both results"
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="hold ONNX Runtime against PyTorch; exit code 1 if they differ",
    )
    parser.add_argument("--simplify", action="store_true", help="simplify the graph")
    parser.add_argument(
        "--skip-postprocess", action="store_true", help="end the graph at the heads' raw outputs"
    )
    _add_pickle(parser)
    _add_store(parser)
    _add_unused(parser)


def _add_build(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", help="a path, or a config that mmdet ships")
    parser.add_argument("model", help="an ONNX file, of `farm export` or any other")
    parser.add_argument("--trt-file", default="tmp.trt", metavar="FILE", help="(default: tmp.trt)")
    parser.add_argument(
        "--runtime", default="tensorrt", help="whose engine it is (default: tensorrt)"
    )
    parser.add_argument(
        "--input-img", metavar="FILE", help="the image of --verify (default: one drawn by seed)"
    )
    _add_shape(
        parser,
        None,
        "input size the engine is tuned for: height and width, or one number for a square "
        "(default: 400 600, or the file's own where it takes only one)",
    )
    for end in ("min", "max"):
        _add_numbers(parser, f"--{end}-shape", None, f"{end}imum input size (default: --shape)")
    _add_words(
        parser,
        "--cfg-options",
        "settings over the config's, as the file was exported with; --verify reads the config",
    )
    parser.add_argument(
        "--workspace-size", type=int, default=1, metavar="GIB", help="in GiB (default: 1)"
    )
    parser.add_argument(
        "--compute-capability",
        metavar="N.N",
        help="of the GPU it is for, where a runtime builds without one (default: the GPU's here)",
    )
    parser.add_argument("--show", action="store_true", help="with --verify, draw both results")
    parser.add_argument(
        "--verify",
        action="store_true",
        help="hold the engine against ONNX Runtime; exit code 1 if they differ",
    )
    _add_store(parser)
    _add_unused(parser, "--to-rgb")


def _add_test(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", help="a path, or a config that mmdet ships")
    parser.add_argument(
        "model", help="an ONNX file or an engine of `farm build`; a checkpoint for torch"
    )
    parser.add_argument(
        "--backend",
        required=True,
        metavar="RUNTIME",
        help="what runs it: torch, or a runtime that builds engines, such as onnxruntime",
    )
    parser.add_argument(
        "--out", metavar="FILE", help="write the results, as mmdet's tools read: .pkl or .pickle"
    )
    parser.add_argument(
        "--format-only", action="store_true", help="write the data set's own format, no evaluation"
    )
    parser.add_argument(
        "--eval",
        nargs="+",
        metavar="METRIC",
        help="bbox, segm, proposal for COCO; mAP, recall for Pascal VOC",
    )
    parser.add_argument(
        "--show",
        action="store_true",
        help="show results in windows; without a display, into the folder `show`",
    )
    parser.add_argument("--show-dir", metavar="DIR", help="where painted images go")
    parser.add_argument(
        "--show-score-thr",
        type=float,
        default=0.3,
        metavar="SCORE",
        help="paint what scores this or more (default: 0.3)",
    )
    _add_words(parser, "--cfg-options", f"settings over the config's, {_KEY_VALUE}")
    _add_words(parser, "--eval-options", "arguments of the data set's evaluate or format_results")
    parser.add_argument(
        "--options", nargs="+", action=_Renamed, dest="eval_options", help=argparse.SUPPRESS
    )
    _add_pickle(parser)
    _add_store(parser)


def _add_numbers(
    parser: argparse.ArgumentParser, name: str, default: Sequence[int] | None, text: str
) -> None:
    parser.add_argument(name, type=int, nargs="+", default=default, metavar="PIXELS", help=text)


def _add_shape(parser: argparse.ArgumentParser, default: Sequence[int] | None, text: str) -> None:
    shown = f" (default: {' '.join(map(str, default))})" if default else ""
    _add_numbers(parser, "--shape", default, text + shown)


def _add_words(parser: argparse.ArgumentParser, name: str, text: str) -> None:
    parser.add_argument(name, nargs="+", default=[], metavar="KEY=VALUE", help=text)


def _add_pickle(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--allow-pickle",
        action="store_true",
        help="load a checkpoint that holds other objects than weights; they can run code",
    )


def _add_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--results", metavar="DIR", help="whose store is shared: a sweep's results")
    parser.add_argument(
        "--retry-failed", action="store_true", help="try a recorded failure once more"
    )


class _Unused(argparse.Action):
    """Takes an option that MMDetection itself deprecated, and says what is used in its place."""

    def __call__(self, parser: object, namespace: object, values: object, *_: object) -> None:
        _warn(f"{self.option_strings[0]} is deprecated and not used: {_CONFIGS}")


class _Renamed(argparse.Action):
    """Takes an option by its old name, for the one that `dest` names."""

    def __call__(
        self, parser: object, namespace: argparse.Namespace, values: object, *_: object
    ) -> None:
        _warn(f"{self.option_strings[0]} is deprecated: write --{self.dest.replace('_', '-')}")
        setattr(namespace, self.dest, values)


def _warn(text: str) -> None:
    logs.configure()  # the command, which sets the level, has not begun
    log.warning(f"farm: warning: {text}")


def _add_unused(parser: argparse.ArgumentParser, *switches: str) -> None:
    """MMDetection's deprecated options; `switches` are those without a value."""
    parser.add_argument("--dataset", action=_Unused, help=argparse.SUPPRESS)
    for name in ("--mean", "--std"):
        parser.add_argument(name, type=float, nargs="+", action=_Unused, help=argparse.SUPPRESS)
    for name in switches:
        parser.add_argument(name, nargs=0, action=_Unused, help=argparse.SUPPRESS)
    parser.epilog = f"{', '.join(['--dataset, --mean, --std', *switches])} {_TAKEN}"
