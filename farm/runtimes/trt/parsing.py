"""ONNX to a network, and what the parser says where it cannot: whole, with the node's name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from farm.errors import StepFailed
from farm.runtimes.trt.log import logger
from farm.runtimes.trt.versions import Version


def parse(library: Any, version: Version, network: Any, onnx: Path) -> None:
    """Fill the network, which then keeps the parser. Raises StepFailed with all its errors."""
    log = logger(library)
    parser = library.OnnxParser(network, log)
    if version.native_instancenorm:
        parser.set_flag(library.OnnxParserFlag.NATIVE_INSTANCENORM)
    if not parser.parse_from_file(str(onnx)):
        errors = [parser.get_error(i) for i in range(parser.num_errors)]
        raise StepFailed(_told(f"{library.__name__} {library.__version__}", errors, log.errors))


_BRANCHES = "its branches differ in rank (a `squeeze` of a free axis): use a fixed shape"
_EARLIER = (
    "end the graph before it: in a matrix with postprocess: host or none, alone with `farm export"
    " --skip-postprocess`"
)
_ADVICE = {
    "If": _BRANCHES,
    "If_OutputLayer": _BRANCHES,
    "NonMaxSuppression": _EARLIER,
    "NonZero": _EARLIER,
    "RoiAlign": "two-stage models need a runtime that has it, as onnxruntime or tensorrt",
    "DeformConv": "models of deformable convolutions need a runtime that has it",
    "TopK": "K must be below 3840: lower the model's nms_pre",
}


def advice(text: str) -> list[str]:
    """What to do about the operators that an error names."""
    named = (name for name in _ADVICE if name == text or (name in text and len(name) > 3))
    return [f"  -> {name}: {_ADVICE[name]}" for name in named]


def _told(library: str, errors: list[Any], logged: list[str]) -> str:
    """All errors, whole."""
    lines = [f"{library} cannot read the ONNX file:"]
    for error in errors:
        name, operator = _node(error, "\n".join(logged))
        where = f"node {error.node()}" + f" {name!r}" * bool(name)
        lines.append(f"{where} ({operator or 'operator unknown'}): {error.code().name}")
        lines.append(f"  {error.desc()} [{error.func()}, {error.file()}:{error.line()}]")
        lines += advice(operator)
    if not errors or not hasattr(errors[0], "node_name"):
        lines += [f"  log: {text}" for text in logged]
    return "\n".join(lines)


def _node(error: Any, log: str) -> tuple[str, str]:
    """The node's name and operator; up to 8.6 only the log has them."""
    if hasattr(error, "node_name"):
        return error.node_name(), error.node_operator()
    told = log.partition(f"While parsing node number {error.node()} ")[2]
    operator, name = re.match(r"\[(\w+)", told), re.search(r'^name: "(.*)"', told, re.MULTILINE)
    return (name[1] if name else ""), (operator[1] if operator else "")
