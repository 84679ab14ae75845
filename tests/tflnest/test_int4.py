"""Constants of type INT4."""

from __future__ import annotations

import numpy as np
import pytest

from tflnest.graph import Tensor
from tflnest.int4 import expanded, pack, unpack


def test_the_first_code_is_in_the_low_half():
    assert pack(np.array([1, -1, 7, -8, 3], np.int8)).tolist() == [0xF1, 0x87, 0x03]


@pytest.mark.parametrize("count", [0, 1, 2, 15, 16, 333])
def test_unpacking_gives_the_codes_again(count):
    codes = np.random.default_rng(count).integers(-8, 8, count).astype(np.int8)
    assert pack(codes).size == -(-count // 2)
    np.testing.assert_array_equal(unpack(pack(codes), count), codes)


def test_only_constants_of_the_type_are_expanded():
    codes = np.arange(-8, 7, dtype=np.int8).reshape(3, 5)
    tensor = Tensor(0, "w", (3, 5), (3, 5), "INT4", None, 1, pack(codes))
    result = expanded(tensor)
    assert result.type == "INT8" and result.dtype == np.int8
    np.testing.assert_array_equal(result.data, codes)
    assert not result.data.flags.writeable
    for other in (
        Tensor(0, "a", (3, 5), (3, 5), "INT4", None, 0),
        Tensor(0, "b", (3, 5), (3, 5), "INT8", None, 1, codes),
    ):
        assert expanded(other) is other
