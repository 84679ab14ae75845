"""The component in the wheel, built once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.oracle import require_wheel
from tests.tflnest.tflm import wheel


@pytest.fixture(scope="package")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The component's operators as a shared library that belongs to the wheel."""
    require_wheel()
    return wheel.build(tmp_path_factory.mktemp("wheel"))
