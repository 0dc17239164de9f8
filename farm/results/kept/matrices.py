"""The matrix of each sweep, which results keep for `reproduce`, the report and MLflow."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.errors import InputError
from farm.files import atomic, jsonfile

if TYPE_CHECKING:
    from farm.config.loader import Matrix


def matrix_path(results: Path, sweep: str) -> Path:
    """Return the file that keeps the matrix of a sweep."""
    return results / "sweeps" / f"{sweep}.json"


def keep_matrix(matrix: Matrix, results: Path) -> None:
    """Write the matrix with its overrides, for `reproduce` and MLflow, and the command.

    Variables are not filled in, since they may be secrets. Overrides may be, too: only its owner
    can read the file.

    Raises:
        OSError: it cannot be written.
    """
    path = matrix_path(results, matrix.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    own, keys = matrix.document, list(matrix.document.overridden)
    hidden = (f"{_dotted(key)}=..." for key in keys)  # their values may be secrets
    values: dict[str, Any] = {
        "matrix": str(own.path.resolve()),
        "values": own.written,
        "text": own.text,
        "overridden": keys,
        "folder": str(own.folder),
        "command": shlex.join(["farm", "run", str(own.path), *hidden]),
    }
    atomic.write(path, json.dumps(values, indent=1), private=True)


def kept_matrix(results: Path, sweep: str) -> Matrix:
    """Return the matrix that `keep_matrix` has written, with the variables of today.

    Raises:
        InputError: there is none, this user may not read it, this version cannot, or a variable is
            not set.
    """
    from farm.config.document import kept as kept_document
    from farm.config.loader import validate

    path = matrix_path(results, sweep)
    try:
        kept = jsonfile.read(path)
        written = Path(kept["matrix"]), dict(kept["values"])
        written[0].resolve()
    except PermissionError:
        reason = "only its owner can read the sweep's matrix, since its overrides may be secrets"
        raise InputError(f"{reason}: reproduce as that user, or run it again", str(path)) from None
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError("the sweep's matrix is not kept here; run it again", str(path)) from None
    document = kept_document(*written)
    try:
        return validate(document)
    except InputError as error:
        raise InputError(
            f"not a matrix of this version ({error}); run it again", str(path)
        ) from None


def kept(results: Path, sweep: str) -> dict[str, Any]:
    """Return what `keep_matrix` has written as it is; nothing where it cannot be read."""
    with suppress(OSError, ValueError):
        found = jsonfile.read(matrix_path(results, sweep))
        if isinstance(found, dict):
            return found
    return {}


def copies_onnx(kept: Mapping[str, Any]) -> bool:
    """Return whether the matrix asks for its ONNX files among the artifacts in MLflow.

    kept: what `keep_matrix` has written.
    """
    values = kept.get("values")
    options = values.get("mlflow") if isinstance(values, dict) else None
    return isinstance(options, dict) and options.get("artifacts") is True


def _dotted(key: Sequence[Any]) -> str:
    return ".".join(map(str, key))
