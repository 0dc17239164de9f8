"""table.config: what a user's own config uses when it is read and its model is built."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from farm.errors import FarmError
from farm.plan.content import dependencies
from farm.sources.watch import watching

if TYPE_CHECKING:
    from farm.specs import ConfigInputs
    from farm.stages import Context


def run(inputs: ConfigInputs, context: Context) -> Mapping[str, Any]:
    """Leave `used.jsonl`, as `check` does. Why a config cannot be built is `table.reference`'s to
    tell."""
    from farm.sources.mmdet import config

    model = inputs.model
    with watching(model, context.folder / dependencies.FILE), suppress(FarmError):
        config.build(config.read(model), model.config.path)
    return {}
