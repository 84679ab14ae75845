from __future__ import annotations

import pytest

from firmware_sim.target import CORTEX_M, ILP32, X86_64, align_up


@pytest.mark.parametrize(
    ("members", "host", "arm", "other"),
    [
        ("2Pe", 24, 12, 12),  # TfLiteEvalTensor
        ("(6Pi)P", 64, 32, 32),  # NodeAndRegistration
        ("(eP)2i2Pz2eb", 64, 32, 40),  # TfLiteTensor
        ("(qi)3i", 32, 32, 32),  # the inner structure keeps its own padding
        ("qi3i", 24, 24, 24),
        ("b", 1, 1, 1),
        ("", 0, 0, 0),
        ("b3hi", 12, 12, 12),
    ],
)
def test_sizes(members, host, arm, other):
    assert [target.sizeof(members) for target in (X86_64, CORTEX_M, ILP32)] == [host, arm, other]


def test_alignment_is_that_of_the_widest_member():
    assert X86_64.layout("bP") == (16, 8)
    assert CORTEX_M.layout("bP") == (8, 4)
    assert CORTEX_M.layout("bq") == (16, 8)


def test_an_unbalanced_structure_is_a_mistake():
    with pytest.raises(ValueError, match="unbalanced"):
        CORTEX_M.sizeof("i)i")


def test_align_up():
    assert [align_up(value, 16) for value in (0, 1, 16, 17)] == [0, 16, 16, 32]
