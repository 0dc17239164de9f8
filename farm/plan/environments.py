"""The environments of a matrix: what each runtime of its cells asks for, and what is known."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from farm import catalog, environments
from farm.config import releases
from farm.environments import locking
from farm.errors import InputError
from farm.plan.factory import Place
from farm.specs import Environment

if TYPE_CHECKING:
    from farm.config.loader import Matrix
    from farm.environments import Known

log = logging.getLogger(__name__)


class Environments:
    """The environments of the runtimes in a matrix's cells, by the runtime's name with its release.

    wanted: what each asks for; None for one in the farm's own environment. known: what is known of
    it; None for one that is not made yet. missing: interpreters that are not on this machine.
    """

    def __init__(self, matrix: Matrix) -> None:
        self._matrix = matrix
        runtimes = dict.fromkeys(cell.runtime for cell in matrix.cells)
        self.wanted = {name: self._wanted(name) for name in runtimes}
        self.missing = list(self._missing())
        self.known: dict[str, Known | None] = {}
        for name, wanted in self.wanted.items():
            if wanted is not None:
                self.known[name] = environments.known(wanted, packages_of(name))

    @property
    def unmade(self) -> tuple[str, ...]:
        """The runtimes whose environments are not made yet, so that their keys are provisional."""
        return tuple(name for name, known in self.known.items() if known is None)

    def place(self, runtime: str) -> Place | None:
        """Return where the steps of a runtime's engines run; None for the farm's environment."""
        if (wanted := self.wanted[runtime]) is None:
            return None
        known = self.known[runtime]
        environment = known.environment if known else wanted
        return Place(environment, partial(environments.toolchain, known, runtime))

    def refused(self, runtime: str) -> str | None:
        """Return why there can be no engine of this runtime: its environment cannot be had."""
        known = self.known.get(runtime)
        return known.failed or None if known else None

    def release(self, runtime: str) -> str | None:
        """Return the version of the runtime's package in its environment; '' where that is not
        known, None in the farm's own."""
        if self.wanted[runtime] is None:
            return None
        known, names = self.known[runtime], catalog.runtime_of(runtime).packages
        return known.versions.get(names[0], "") if known and names else ""

    def make(self) -> None:
        """Make all that are not made yet; `known` then says which could not be."""
        for name in self.unmade:
            wanted = self.wanted[name]
            assert wanted is not None
            log.info(f"Making the environment of {name}")
            log.debug("it asks for: %s", ", ".join(wanted.requirements))
            self.known[name] = found = environments.make(wanted, packages_of(name))
            if found.failed:
                log.warning(found.failed)

    def _wanted(self, runtime: str) -> Environment | None:
        name, at, rest = runtime.partition("@")
        if not at:
            return None
        packages = packages_of(runtime)
        spec = self._matrix.spec.environments.get(rest)
        if spec is None:
            return of_release(runtime)
        if spec.image is not None:
            return Environment(runtime, image=spec.image)
        if spec.interpreter is not None:
            return Environment(runtime, interpreter=self._path(spec.interpreter))
        own = (*spec.requirements, *releases.needs(name))
        return _made_of(runtime, locking.with_needed(own, packages), spec.python)

    def _path(self, interpreter: str) -> str:
        """Return the path of an interpreter; links are kept, by which Python finds its packages."""
        return os.path.abspath(self._matrix.folder / os.path.expanduser(interpreter))

    def _missing(self) -> Iterable[InputError]:
        for runtime, wanted in self.wanted.items():
            if wanted and wanted.interpreter and not os.access(wanted.interpreter, os.X_OK):
                place = ("environments", runtime.partition("@")[2], "interpreter")
                message = f"{wanted.interpreter} is no program; expected the path of a Python"
                yield InputError(message, self._matrix.document.where(place))


def of_release(runtime: str) -> Environment:
    """Return what the environment of a runtime's release asks for, as `openvino@2025.2`."""
    own = releases.requirements(runtime)
    return _made_of(runtime, locking.with_needed(own, packages_of(runtime)))


def _made_of(name: str, requirements: tuple[str, ...], python: str | None = None) -> Environment:
    return Environment(name, requirements, python or locking.python_version())


def packages_of(runtime: str) -> tuple[str, ...]:
    """Return the packages whose versions are in the keys of the steps of a runtime's engines."""
    stages = catalog.engine_stages().values()
    own = catalog.runtime_of(runtime).packages
    return tuple(dict.fromkeys([*own, *(name for stage in stages for name in stage.packages)]))


def make_environments(matrix: Matrix) -> None:
    """Make the environments of a matrix on this machine, which plans by their versions.

    One that cannot be made is reported, and costs its own cells only.
    """
    Environments(matrix).make()
