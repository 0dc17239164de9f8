"""Single tools use the farm's own environment, and say so where a release is asked for."""

from __future__ import annotations

import pytest

from farm.errors import InputError
from farm.single.inputs import require_runtime


def test_a_release_of_a_runtime_is_for_a_matrix() -> None:
    with pytest.raises(InputError) as refused:
        require_runtime("openvino@2025.2", "--runtime")
    assert str(refused.value) == (
        "--runtime: openvino@2025.2: a release of a runtime is for a matrix; here the farm's own "
        "environment is used: openvino"
    )
