"""Why an environment cannot be had."""

from __future__ import annotations

from farm.errors import TransientFailure


class EnvironmentFailed(TransientFailure):
    """An environment cannot be made, or lacks what steps need. It may succeed another day, with
    another index or network: a step that fails so is never recorded."""
