"""A step whose model's code is any text, for the tests of how such code ends."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from farm.plan import Step
from farm.plan.steps import Needs


@dataclass(frozen=True)
class Code:
    """Inputs of `check`, whose model is what the code makes of it."""

    code: str

    @property
    def model(self) -> Any:
        names: dict[str, Any] = {}
        exec(self.code, names)
        return names.get("model")


def step(code: str, own_process: bool = True) -> Step:
    key = hashlib.sha256(code.encode()).hexdigest()
    needs = Needs(own_process=own_process)
    return Step("check", key, "bad", Code(code), (), (), needs, "")  # type: ignore[arg-type]
