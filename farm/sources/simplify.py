"""Simplifies an ONNX file with onnxslim: folds constants, fuses nodes, removes dead ones.

Why onnxslim and not onnxsim: see docs/internals.md.
"""

from __future__ import annotations

import logging
from pathlib import Path

import onnx
import onnxslim

from farm.errors import StepFailed
from farm.sources import onnx_cleaning

log = logging.getLogger(__name__)


def simplify(path: Path) -> None:
    """Simplify the file in place, and check it again.

    Raises:
        StepFailed: onnxslim fails on the file, or writes one that ONNX's checker refuses.
    """
    try:
        model = onnxslim.slim(onnx.load(str(path)))
    except (MemoryError, OSError):
        raise  # a transient failure of this machine, not a fault of the model
    except Exception as error:  # its passes raise errors of many types
        log.error("simplification failed", exc_info=True)
        raise StepFailed(onnx_cleaning.reason(error, "simplification")) from error
    # Extents that onnxslim infers can have one name and differ; ONNX Runtime then shares a buffer.
    del model.graph.value_info[:]
    onnx.save(model, str(path))
    onnx_cleaning.finish(path, "simplification")
