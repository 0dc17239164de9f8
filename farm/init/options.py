"""The arguments of `farm init`; imports nothing heavy."""

from __future__ import annotations

import argparse


def add_command(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `farm init`."""
    parser.description = (
        "Write a first matrix from a config, its checkpoint and a data set, with the runtimes,"
        " precisions and shapes that this machine and this model can run. Comments in the file say"
        " what each line does and what to try next. The model is loaded once, so that files that"
        " do not belong together are found now."
    )
    # It loads the model, whose code may end the process.
    parser.set_defaults(command=_init, in_child=True)
    add = parser.add_argument
    add("config", metavar="CONFIG", help="an mmdet 2.x config: a path, or one that mmdet ships")
    add("checkpoint", metavar="CHECKPOINT", help="its trained weights (.pth)")
    add(
        "--data", metavar="FILE_OR_FOLDER",
        help="what to evaluate on: an annotation file in COCO's format (.json), a folder that has"
        " one, or a folder in Pascal VOC's form (default: the config's own test data)",
    )  # fmt: skip
    add(
        "--images", metavar="DIR",
        help="the folder of the images (default: looked for beside the annotation file)",
    )  # fmt: skip
    add(
        "-o", "--output", default="matrices/own.yaml", metavar="FILE",
        help="the matrix to write (default: matrices/own.yaml)",
    )  # fmt: skip
    add("--force", action="store_true", help="replace the file if it exists")
    add(
        "--allow-pickle", action="store_true",
        help="load a checkpoint that has other objects than weights, which can run code",
    )  # fmt: skip


def _init(options: argparse.Namespace) -> int:
    from farm.init.command import init

    return init(options)
