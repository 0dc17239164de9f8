"""TensorRT's messages: shown as they come, and the errors among them kept for the reason."""

from __future__ import annotations

from collections import deque
from functools import cache
from typing import Any

_SHOWN = ("INTERNAL_ERROR", "ERROR", "WARNING")
_MOST = 50
_NO_MEMORY = ("out of memory", "outofmemory", "insufficient memory", "cudamalloc")


@cache
def logger(library: Any) -> Any:
    """The one logger of a library in this process: TensorRT wants the same for everything."""

    class Logger(library.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            library.ILogger.__init__(self)
            self.errors: list[str] = []
            self.warnings: deque[str] = deque(maxlen=3)

        def log(self, severity: Any, text: str) -> None:
            if severity.name not in _SHOWN:
                return
            print(f"[{library.__name__}] {severity.name}: {text}", flush=True)
            if "ERROR" not in severity.name:
                self.warnings.append(text.strip())
            elif len(self.errors) < _MOST:
                self.errors.append(text.strip())

        def begin(self) -> None:
            """Forget what was said of the work before."""
            self.errors.clear()
            self.warnings.clear()

        def reason(self) -> str:
            """The errors; without any, the last warnings: 8.6 has no more to say of a driver."""
            return "\n".join(dict.fromkeys(self.errors or self.warnings)) or "it gives no reason"

        def out_of_memory(self) -> bool:
            text = "\n".join(self.errors).lower()
            return any(words in text for words in _NO_MEMORY)

    return Logger()
