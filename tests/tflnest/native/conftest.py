"""The native engine needs a C compiler."""

from __future__ import annotations

import os

import pytest

from tflnest.errors import UnsupportedError
from tflnest.native.compiler import Compiler


@pytest.fixture(scope="package", autouse=True)
def compiler() -> Compiler:
    """The C compiler; without one the tests are skipped, and fail in continuous integration."""
    try:
        return Compiler.find()
    except UnsupportedError as error:
        if os.environ.get("CI"):
            pytest.fail(error.message)
        pytest.skip(error.message)
