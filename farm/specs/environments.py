"""Where the process of a step runs, if not in the farm's own Python."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property


@dataclass(frozen=True)
class Environment:
    """A Python with packages of its own, or a container image, for the steps of an engine.

    name: of the runtime and its release or environment, `openvino@2025.2`. It is made of
    `requirements` (as pip takes them) for the version `python`, `3.12`; or it is a ready one, by
    the path `interpreter`; or it is the container `image`. lock: the exact release of each of its
    packages, a line each; empty until the requirements are resolved.

    It is in no key of a step: the versions of its packages are.
    """

    name: str
    requirements: tuple[str, ...] = ()
    python: str = ""
    interpreter: str = ""
    image: str = ""
    lock: str = ""

    @cached_property
    def digest(self) -> str:
        """The sha256 of what it holds, 64 hex digits; of what it asks for, while that is not
        resolved. Environments of the same digest are one, whatever they are called."""
        held = {**asdict(self), "name": "", "requirements": () if self.lock else self.requirements}
        return hashlib.sha256(json.dumps(held, sort_keys=True).encode()).hexdigest()
