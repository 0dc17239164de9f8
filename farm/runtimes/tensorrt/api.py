"""TensorRT as a library: what differs between its versions, its logger, its plugins.

Differences are read from the names that a library's Python module has, never from numbers: those
of the enums moved between versions, and a version's number does not tell TensorRT from
TensorRT-RTX.
"""

from __future__ import annotations

import ctypes
import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from farm.errors import StepFailed
from farm.failures import reports_no_memory

log = logging.getLogger(__name__)

Names = Mapping[str, frozenset[str]]
"""The attributes of those classes and enums of a library that decide; empty for an absent one."""

HOLDERS = (
    "BuilderFlag",
    "ComputeCapability",
    "IExecutionContext",
    "IPluginRegistry",
    "NetworkDefinitionCreationFlag",
    "OnnxParserFlag",
)

PRECISION_FLAGS = {"fp16": ("FP16",), "bf16": ("BF16",), "int8": ("INT8",)}
"""What a weakly typed network must be allowed before it uses a precision below fp32."""

_SHOWN = ("INTERNAL_ERROR", "ERROR", "WARNING")
_MOST = 50


@dataclass(frozen=True)
class Version:
    """How to talk to one version.

    network_flags: of a network that follows its file's types. Strongly typed networks (10 on
    request, 11 and RTX always) do so by themselves; `precision_flags`
    allow a weakly typed one (8.6) to use a reduced precision.
    loose_network_flags: of a network whose precision builder flags may reduce; None where
    every network is strongly typed, so that a reduced precision must be in the file.
    constraint: the builder flag that makes layers keep the precision set on them.
    creators: the registry's list of plug-ins. native_instancenorm: must be asked for; the parser
    would else use a plug-in that needs cuDNN.
    compute_capabilities: an engine is built for one of these, with no GPU there; () where it is
    built for the GPU that is there.
    """

    network_flags: tuple[str, ...]
    loose_network_flags: tuple[str, ...] | None
    strongly_typed: bool
    precision_flags: frozenset[str]
    constraint: str | None
    creators: str
    native_instancenorm: bool
    compute_capabilities: frozenset[str]
    asks_capturable: bool

    @property
    def ahead_of_time(self) -> bool:
        """Whether it builds engines with no GPU there."""
        return bool(self.compute_capabilities)

    def flags_for(self, precision: str) -> tuple[str, ...] | None:
        """Return the builder flags of a precision; None where this version has none for it."""
        if precision == "fp32":
            return ()
        wanted = PRECISION_FLAGS.get(precision, (precision.upper(),))
        return wanted if self.precision_flags.issuperset(wanted) else None


def names(library: Any) -> Names:
    """Return the attributes of an imported library that `version` reads."""
    return {
        holder: frozenset(n for n in dir(getattr(library, holder, object)) if n[0] != "_")
        for holder in HOLDERS
    }


def version(known: Names) -> Version:
    """Describe a version by names alone: nothing of the library is called."""
    network, flags = known["NetworkDefinitionCreationFlag"], known["BuilderFlag"]
    # Up to 10 a network is weakly typed unless a flag says otherwise; 8.6 needs EXPLICIT_BATCH, 10
    # ignores it, 11 has neither it nor weakly typed networks.
    explicit = tuple(sorted(network & {"EXPLICIT_BATCH"}))
    weak = "EXPLICIT_BATCH" in network
    strong = "STRONGLY_TYPED" in network
    constraints = ("OBEY_PRECISION_CONSTRAINTS", "PREFER_PRECISION_CONSTRAINTS")
    targets = frozenset(n for n in known["ComputeCapability"] if n.startswith("SM"))
    return Version(
        network_flags=(*explicit, "STRONGLY_TYPED") if weak and strong else explicit,
        loose_network_flags=explicit if weak else None,
        strongly_typed=strong,
        precision_flags=flags & {"FP16", "BF16", "INT8", "FP8"} if weak else frozenset(),
        constraint=next((name for name in constraints if name in flags), None),
        creators=next(
            (n for n in ("all_creators", "plugin_creator_list") if n in known["IPluginRegistry"]),
            "all_creators",
        ),
        native_instancenorm="NATIVE_INSTANCENORM" in known["OnnxParserFlag"],
        compute_capabilities=targets,
        asks_capturable="is_stream_capturable" in known["IExecutionContext"],
    )


def bits(enum: Any, members: tuple[str, ...]) -> int:
    """Return a bit mask of an enum's members by name."""
    return sum(1 << int(getattr(enum, name)) for name in members)


@cache
def logger(library: Any) -> Any:
    """Return the logger of a library, of which TensorRT accepts only one in a process."""

    class Logger(library.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            library.ILogger.__init__(self)
            self.errors: list[str] = []
            self.warnings: deque[str] = deque(maxlen=3)

        def log(self, severity: Any, text: str) -> None:
            if severity.name not in _SHOWN:
                return
            log.info(f"[{library.__name__}] {severity.name}: {text}")
            if "ERROR" not in severity.name:
                self.warnings.append(text.strip())
            elif len(self.errors) < _MOST:
                self.errors.append(text.strip())

        def begin(self) -> None:
            """Forget the messages of earlier work."""
            self.errors.clear()
            self.warnings.clear()

        def reason(self) -> str:
            """Return the errors, or without any the last warnings, which are all that 8.6 gives."""
            return "\n".join(dict.fromkeys(self.errors or self.warnings)) or "it gives no reason"

        def out_of_memory(self) -> bool:
            return any(map(reports_no_memory, self.errors))

    return Logger()


def load_plugins(library: Any, version: Version, logger: Any, paths: tuple[str, ...]) -> None:
    """Load plug-in libraries; those that do not register themselves are registered.

    Raises:
        StepFailed: a library cannot be loaded.
    """
    library.init_libnvinfer_plugins(logger, "")
    registry = library.get_plugin_registry()
    for path in paths:
        before = _count(registry, version)
        try:
            ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            raise StepFailed(f"plug-in library {path} cannot be loaded: {error}") from None
        if _count(registry, version) == before:
            registry.load_library(path)
        log.info(f"plug-in library {path}: {_count(registry, version) - before} creators")


def _count(registry: Any, version: Version) -> int:
    return len(getattr(registry, version.creators))
