"""A database with tables, which takes seconds to make."""

from __future__ import annotations

from pathlib import Path

import pytest
from rows import row

from farm.results import tracking


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the run of another sweep."""
    folder = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        tracking.log_sweep("t", [row("z", sweep="t")], {"z": {}}, folder)
    return folder / "mlflow.db"
