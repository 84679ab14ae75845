"""A small nested model, made once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from converters.conversion import convert
from converters.recipe import BaseWidths, load_recipe
from tests.firmware_sim.builder import small_cnn
from tflnest.model import Model


@pytest.fixture(scope="session")
def plain_cnn() -> Model:
    """An int8 CNN."""
    return small_cnn()


@pytest.fixture(scope="session")
def nested_cnn(plain_cnn, tmp_path_factory) -> Model:
    """The same with the levels 4, 6 and 8, each filter with just these widths."""
    path = tmp_path_factory.mktemp("nested") / "cnn.tflite"
    plain_cnn.save(path)
    recipe = replace(load_recipe("default"), base_widths=BaseWidths.UNIFORM)
    return convert(path, levels=(4, 6, 8), recipe=recipe).model
