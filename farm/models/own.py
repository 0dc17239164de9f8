"""The digest of a user's own config, with all files that it uses."""

from __future__ import annotations

import contextlib
import tempfile
from functools import cache
from pathlib import Path

from farm import specs
from farm.errors import FarmError
from farm.plan import dependencies
from farm.plan.configs import config_file


@cache
def config_digest(config: str) -> str:
    """Run a config, and return the digest of it and what it uses; if it fails, a trial says why.

    Raises:
        InputError: the file is not there.
    """
    from farm.sources.mmdet import config as configs
    from farm.sources.watch import watching

    file = config_file(config, Path())
    model = specs.Model("", "mmdet", file, specs.File("", ""))
    with tempfile.TemporaryDirectory() as folder:
        seen = Path(folder) / dependencies.FILE
        with watching(model, seen), contextlib.suppress(FarmError):
            configs.build(configs.read(model), config)
        return file.digest + dependencies.as_key(dependencies.read(seen))
