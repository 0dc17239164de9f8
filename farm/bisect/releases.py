"""The releases of a runtime, in order, up to the first that leaves the fp32 file."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from farm import catalog, environments
from farm.bisect.engines import Elsewhere
from farm.config import releases
from farm.errors import InputError, StepFailed
from farm.plan.environments import of_release, packages_of
from farm.terminal import plain

if TYPE_CHECKING:
    from farm.bisect.comparisons import Comparisons
    from farm.bisect.engines import Here
    from farm.bisect.report import Report

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Versions:
    """Releases of a runtime, as `openvino==2025.2,2026.1` names them."""

    runtime: str
    releases: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Versions:
        """Read RUNTIME==RELEASE[,RELEASE...]. Raises ValueError."""
        runtime, _, listed = text.partition("==")
        found = tuple(one.strip() for one in listed.split(","))
        if not runtime or not all(found):
            raise ValueError(f"{text!r} names no releases; write openvino==2025.2,2026.1")
        return cls(runtime.strip(), found)

    def require(self, runtime: str) -> None:
        """Require them to be releases of the cell's runtime.

        Raises:
            InputError: they are not.
        """
        if self.runtime != runtime:
            reason = f"the cell's runtime is {runtime}, and not {self.runtime}"
            raise InputError(reason, "--versions")
        for one in self.releases:
            if (wrong := releases.unknown(f"{runtime}@{one}", ())) is not None:
                raise InputError(wrong, "--versions")


def first_that_leaves(
    comparisons: Comparisons, versions: Versions, here: Here, failed: list[str]
) -> Iterator[Report]:
    """Yield the report of each release, in the order given, up to the first that leaves.

    here: how engines run, but for the environment. failed: gets the names of releases that cannot
    be had or cannot run the file, which is logged.
    """
    package = catalog.runtime_of(versions.runtime).packages[0]
    for release in versions.releases:
        name = f"{versions.runtime}@{release}"
        log.info(f"Comparing {name} with the fp32 file")
        known = environments.make(of_release(name), packages_of(name))
        if known.failed:
            _note(name, known.failed, failed)
            continue
        called = f"{versions.runtime} {known.versions[package]} in {here.options.precision}"
        try:
            report = comparisons.engine(Elsewhere(known.environment, here), called)
        except (StepFailed, environments.EnvironmentFailed) as error:
            _note(name, str(error), failed)
            continue
        yield report
        if report.leaves:
            return


def _note(name: str, reason: str, failed: list[str]) -> None:
    log.warning(plain(f"{name} could not be compared: {reason}"))
    failed.append(name)
