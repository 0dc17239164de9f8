"""`farm bundle` and `farm check`."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from farm.errors import FarmError, InputError

if TYPE_CHECKING:
    from farm.cli.results import Results

log = logging.getLogger(__name__)


class BundleDiffers(FarmError):
    """A bundle is not as it was written, or is another detector on this machine."""


def bundle(options: argparse.Namespace) -> int:
    """Write a bundle. Return the exit code.

    Raises:
        InputError, StepFailed, OSError: as `write_bundle`.
    """
    from farm.cli.results import results_of

    results = results_of(options.results, only_read=True)
    path = write_bundle(
        options.cell, options.folder, results, options.sweep, options.sample, options.triton
    )
    size = sum(one.stat().st_size for one in path.rglob("*") if one.is_file())
    print(f"Bundle: {path} ({size / 1e6:.1f} MB)")
    log.info(f"On the machine where it will run: python {path / 'detector.py'} --check")
    return 0


def write_bundle(
    cell: str,
    folder: str,
    results: Results,
    sweep: str | None = None,
    sample: str | None = None,
    triton: bool = False,
) -> Path:
    """Write the bundle of a cell into a new or empty folder, whole or not at all.

    sweep: needed where several sweeps have a cell of that name. sample: an image in place of one of
    the data set. triton: also write a model repository of Triton Inference Server.

    Raises:
        InputError: the cell, the folder or the image is wrong.
        StepFailed: the bundle would be another detector than the cell's.
        OSError: a file cannot be read or written.
    """
    from farm.bundle import sample as samples
    from farm.bundle.cells import finished_cell
    from farm.bundle.folder import appearing, empty_folder, write

    path = empty_folder(folder)
    found = finished_cell(cell, results, sweep)
    with samples.chosen(found, results, sample) as image, appearing(path) as part:
        write(found, part, image, triton)
    return path


def check(options: argparse.Namespace) -> int:
    """Check a bundle. Return 0.

    Raises:
        InputError: it is no folder.
        BundleDiffers: something differs.
    """
    from farm.bundle import detector

    folder = Path(options.folder)
    if not (folder / "bundle.json").is_file():
        raise InputError("no bundle.json in it; expected a folder of `farm bundle`", str(folder))
    try:
        lines = detector.check(folder, options.allow_fallback)
    except detector.BundleError as error:
        raise BundleDiffers(str(error)) from error
    print("\n".join(lines))
    return 0
