"""What the kernels without weights cost on a Cortex-M4 and a Cortex-M55, against TFLM with CMSIS-NN."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.operator_instructions import CASES, PEER_COLUMN, peer_instructions
from tests.firmware_sim.monitor import require_emulator
from tests.runtime.operator_board import build, measure

#: Most instructions as a share of the peer's, by core and operator. What was measured is about a tenth below.
LIMITS = {
    "m4": {"ADD 32x32x16": 0.25, "AVERAGE_POOL_2D 25x5x64": 0.38, "SOFTMAX 12": 0.46},
    "m55": {"ADD 32x32x16": 0.60, "AVERAGE_POOL_2D 25x5x64": 0.91, "SOFTMAX 12": 0.94},
}


@pytest.mark.parametrize(("core", "board"), [("m4", "mps2-an386"), ("m55", "mps3-an547")])
def test_operators_take_fewer_instructions_than_the_peer(core: str, board: str, tmp_path: Path) -> None:
    require_emulator()
    chosen = [(name, make(), place) for name, make, place in CASES if name in LIMITS[core]]
    assert len(chosen) == len(LIMITS[core])
    image = build(board, tmp_path)
    results = measure(board, image, [case for _, case, _ in chosen], tmp_path, count=True)
    for (name, _, place), result in zip(chosen, results, strict=True):
        peer = peer_instructions(place, PEER_COLUMN[core])
        assert peer is not None and result.wrong == 0
        assert result.instructions <= LIMITS[core][name] * peer, name
