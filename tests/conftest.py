"""Fixtures that several test packages use."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.shared import SHARED

# How fast a machine is says nothing of the code.
settings.register_profile("tflnest", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tflnest")

# A shell that starts the tests in the background has them ignore Ctrl-C, and whatever they start ignores it, too.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_models() -> Path:
    """Folder of the public reference models; the test is skipped where it is missing."""
    folder = SHARED / "models"
    if not folder.is_dir():
        pytest.skip(f"the public reference models are not at {folder}")
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the labelled image sets; the test is skipped where it is missing."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip(f"the image sets are not at {folder}")
    return folder
