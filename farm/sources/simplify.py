"""A simpler ONNX file with the same outputs, by onnxslim: folded, fused, without dead nodes.

Of onnxslim and onnxsim, the first: see docs/internals.md.
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
    """Simplify the file in its place, and check it again.

    Raises:
        StepFailed: onnxslim cannot take the file, or leaves one that ONNX refuses.
    """
    try:
        model = onnxslim.slim(onnx.load(str(path)))
    except (MemoryError, OSError):
        raise  # of the moment: not the model's fault
    except Exception as error:  # its passes raise whatever they meet
        log.error("simplification failed", exc_info=True)
        raise StepFailed(onnx_cleaning.reason(error, "simplification")) from error
    # Extents that onnxslim infers can have one name and differ; ONNX Runtime then shares a buffer.
    del model.graph.value_info[:]
    onnx.save(model, str(path))
    onnx_cleaning.finish(path, "simplification")
