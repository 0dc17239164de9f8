"""The arguments of `farm bundle` and `farm check`."""

from __future__ import annotations

import argparse

from farm.run import PLACE

_BUNDLE = """\
The folder has the engine, its ONNX file, bundle.json, detector.py, a sample image with the boxes
that are expected, requirements.txt and README.md. detector.py needs numpy, OpenCV and the runtime
alone. A TensorRT engine needs no GPU to be bundled."""

_CHECK = """\
Compares every file with its sha256, the version and the processor with those that the engine was
built for, and the boxes of the sample image with those that are expected. Ends with 1, and says
why, if something differs. `python DIR/detector.py --check` does the same without the farm."""


def add_bundle(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `farm bundle`."""
    parser.description = f"{(parser.description or '').capitalize()}. {_BUNDLE}"
    add = parser.add_argument
    add("cell", help="its name, as `farm best` and `farm leaderboard --format csv` show it")
    add("folder", metavar="DIR", help="the folder to write; it must be new or empty")
    add("--sweep", help="where several sweeps have a cell of that name")
    add(
        "--sample",
        metavar="IMAGE",
        help="the sample image (default: an image of the data set in which much is found)",
    )
    add(
        "--triton",
        action="store_true",
        help="also write a model repository of NVIDIA's Triton Inference Server, in DIR/triton",
    )
    add("--results", metavar="PLACE", help=PLACE)
    parser.set_defaults(command=_bundle, in_child=True)


def add_check(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `farm check`."""
    parser.description = f"{(parser.description or '').capitalize()}. {_CHECK}"
    add = parser.add_argument
    add("folder", metavar="DIR", help="a folder that `farm bundle` has written")
    add(
        "--allow-fallback",
        action="store_true",
        help="an engine that does not fit this machine is no difference, if the ONNX file gives"
        " the expected boxes in its place",
    )
    parser.set_defaults(command=_check, in_child=True)


def _bundle(options: argparse.Namespace) -> int:
    from farm.bundle.command import bundle

    return bundle(options)


def _check(options: argparse.Namespace) -> int:
    from farm.bundle.command import check

    return check(options)
