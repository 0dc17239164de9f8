"""Where results and artifacts lie."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from farm.errors import InputError
from farm.plan.files import expanded

if TYPE_CHECKING:
    from farm.config.loader import Matrix

_RAY_WORKING_DIR = "runtime_resources/working_dir_files"


def results_folder(option: str | None, matrix: Matrix | None = None) -> Path:
    """`--results`, else the matrix's `results`, else FARM_RESULTS, else `results` here.

    A Ray job runs in a copy of the project within Ray's temporary folder, which Ray deletes:
    there a relative path is refused, and without any the results go to `~/farm-results`.
    """
    in_job = _RAY_WORKING_DIR in str(Path.cwd())
    start = Path.cwd()
    if option is not None:
        path, said_by = expanded(option, Path()), "--results"
    elif matrix is not None and matrix.spec.results is not None:
        path, said_by = expanded(matrix.spec.results, Path()), "results"
        start = matrix.folder
    elif "FARM_RESULTS" in os.environ:
        path, said_by = expanded(os.environ["FARM_RESULTS"], Path()), "FARM_RESULTS"
    elif in_job:
        return Path.home() / "farm-results"
    else:
        return start / "results"
    if in_job and not path.is_absolute():
        raise InputError(
            f"{str(path)!r} would land in Ray's temporary folder; in a job give an absolute "
            "path on a file system that all nodes share",
            said_by,
        )
    return (start / path).resolve()


def store_folder(results: Path) -> Path:
    """FARM_STORE, so that several results share their artifacts, else `store` beside them."""
    if own := os.environ.get("FARM_STORE"):
        return expanded(own, Path()).resolve()
    return results / "store"
