#!/usr/bin/env python3
"""Accept a machine with an NVIDIA GPU: build, verify and measure the engines of a pack.

    python3 gpu/acceptance.py build/gpu-pack.tar.xz --store DIR --out DIR --minutes 7

Needs no network and no installed farm: this checkout, a pack made by `make gpu-pack`, and a Python
with numpy and the runtime. Run again, it goes on from where it was. Exit codes: 0 every cell is
well, 1 some are not, 2 wrong input, 3 no GPU, 130 the time was up or it was interrupted.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from farm.acceptance.unpack import unpacked, use_packages
from farm.errors import InputError
from farm.terminal import plain


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pack", type=Path, help="a pack: its archive, or a folder")
    parser.add_argument("--store", type=Path, required=True, help="keeps what is done, and resumes")
    parser.add_argument("--out", type=Path, required=True, help="gets what is to be taken home")
    parser.add_argument("--minutes", type=float, default=60, help="end cleanly after so many")
    parser.add_argument("--target", help="of the matrix (default: the one of this machine's GPU)")
    parser.add_argument(
        "--only", action="append", default=[], metavar="WORD", help="cells with this in their name"
    )
    parser.add_argument(
        "--runtime", help="in place of the pack's own: onnxruntime tries the pack on a CPU"
    )
    parser.add_argument(
        "--step-minutes", type=float, default=10, help="a step that takes longer is given up"
    )
    parser.add_argument(
        "--records", type=Path, help="of an earlier run: cells that are done there are not redone"
    )
    parser.add_argument("--retry-failed", action="store_true", help="try recorded failures again")
    options = parser.parse_args()
    options.began = time.monotonic()
    try:
        folder = unpacked(options.pack, options.store)
        use_packages(folder)
    except InputError as error:
        print(plain(f"farm: {error}"), file=sys.stderr)
        return 2
    except OSError as error:  # no room, no right to write or read
        text = f"farm: {error.filename or options.store}: {error.strerror or error}"
        print(plain(text), file=sys.stderr)
        return 2
    from farm.acceptance.command import main as accept

    return accept(options, folder)


if __name__ == "__main__":
    sys.exit(main())
