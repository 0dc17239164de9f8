"""`farm bundle` and `farm check`."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from farm.errors import FarmError, InputError

log = logging.getLogger(__name__)


class BundleDiffers(FarmError):
    """A bundle is not as it was written, or is another detector on this machine."""


def bundle(options: argparse.Namespace) -> int:
    """Write a bundle. Return the exit code.

    Raises:
        InputError: the cell or the folder is wrong.
        StepFailed: the bundle would be another detector than the cell's.
        OSError: a file cannot be read or written.
    """
    from farm.bundle import folder, sample
    from farm.bundle.cells import finished_cell
    from farm.cli.results import results_of

    path = folder.empty_folder(options.folder)
    results = results_of(options.results)
    cell = finished_cell(options.cell, results, options.sweep)
    with sample.chosen(cell, results, options.sample) as image, folder.appearing(path) as part:
        folder.write(cell, part, image, options.triton)
    size = sum(one.stat().st_size for one in path.rglob("*") if one.is_file())
    print(f"Bundle: {path} ({size / 1e6:.1f} MB)")
    log.info(f"On the machine where it will run: python {path / 'detector.py'} --check")
    return 0


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
