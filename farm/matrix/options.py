"""What a matrix may say of a runtime whose options are known beforehand."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, create_model

from farm.catalog import RUNTIMES
from farm.matrix.values import Edge, Options, Text, axis


class _Known(Edge):
    """Every option that any such runtime has; the catalog says which has which."""

    allow_fallback: bool = False
    builder_flags: bool = False
    cuda_graph: bool = False
    hardware_compatible: bool = False
    optimization_level: Annotated[int, Field(ge=0, le=5)] | None = None
    provider_options: Options | None = None
    plugins: axis(Text) | None = None  # type: ignore[valid-type]
    tactic_sources: axis(Text) | None = None  # type: ignore[valid-type]
    timing_cache: Text | None = None
    version_compatible: bool = False


def _spec(runtime: str, names: tuple[str, ...]) -> type[Edge]:
    fields = {name: (_Known.model_fields[name].annotation, None) for name in names}
    return create_model(runtime, __base__=Edge, **fields)  # type: ignore[call-overload, no-any-return]


OPTION_SPECS = {
    name: _spec(name, line.options) for name, line in RUNTIMES.items() if line.options is not None
}
