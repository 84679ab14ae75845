"""Models that every kind of component is made of."""

from __future__ import annotations

import pytest

from firmware_sim.firmware.selftest import expected_crc32
from tests.models import NetworkBuilder, everything, nested, network
from tflnest.model import Model

LEVELS = (4, 6, 8)


@pytest.fixture(scope="module")
def model() -> Model:
    return nested(network(), everything(LEVELS))


@pytest.fixture(scope="module")
def small() -> Model:
    """One convolution, for the slower builds; its levels give different outputs."""
    net = NetworkBuilder()
    source = nested(net.finish(net.convolution(net.start(), 12)), everything(LEVELS))
    assert len({expected_crc32(source, level) for level in LEVELS}) == len(LEVELS)
    return source
