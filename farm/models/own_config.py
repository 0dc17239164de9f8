"""What a user's own config is made of, beside its file: its code runs in a worker process."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from farm import specs
from farm.catalog import SOURCES
from farm.plan.content import dependencies
from farm.plan.content.configs import config_file
from farm.plan.factory import new_step
from farm.plan.steps import Needs


def digest(config: str) -> str:
    """Return the digest of a config and of all that its code uses.

    Where it cannot be built, that is what it used until then; a trial says why.

    Raises:
        InputError: the file is not there.
    """
    return config_file(config, Path()).digest + dependencies.as_key(used(config))


@cache
def used(config: str) -> tuple[specs.Used, ...]:
    """Run a config, build its model, and return what both use. Raises InputError as `digest`."""
    from farm.models import steps

    model = specs.Model("", "mmdet", config_file(config, Path()), specs.File("", ""))
    inputs, packages = specs.ConfigInputs(model), SOURCES["mmdet"].packages
    step = new_step("table.config", config, inputs, packages, Needs(own_process=True))
    with steps.temporary_store() as store:
        steps.run([step], store)
        kept = store.failed_file(step.key, dependencies.FILE)  # of code that has ended its process
        done = store.path(step.ref) / dependencies.FILE
        return dependencies.read(done if done.exists() else kept)
