"""What Python says of the kernels' scratch is what the kernels ask for on a board."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.firmware_sim.monitor import require_emulator
from tests.runtime.weight_board import build, measure
from tests.runtime.weight_cases import NESTINGS, Case, conv_case, depthwise_case, fully_connected_case
from tflnest.device.calls import Argument, Call
from tflnest.device.convolutions import CONV, DEPTHWISE_CONV, FULLY_CONNECTED
from tflnest.device.core import Core

BOARDS = {Core.PORTABLE: "mps2-an385", Core.DSP: "mps2-an386", Core.MVE: "mps3-an547"}
FUNCTIONS = {"conv": CONV, "depthwise_conv": DEPTHWISE_CONV, "fully_connected": FULLY_CONNECTED}


def cases() -> list[Case]:
    rng = np.random.default_rng(0)
    made = []
    for number, tile in enumerate((0, 1, 2, 3, 4, 7, 8, 16, 33)):
        depth, nesting = (3, 4, 5, 8, 16, 24)[number % 6], NESTINGS[number % len(NESTINGS)]
        image = (1, 4, 5, depth)
        made += [
            conv_case(rng, image=image, channels=18, nesting=nesting).with_tile(tile),
            conv_case(rng, image=image, channels=9, taps=(1, 1), nesting=nesting).with_tile(tile),
            conv_case(rng, image=(1, 4, 5, 2 * depth), channels=8, groups=2).with_tile(tile),
            depthwise_case(rng, image=image, nesting=nesting).with_tile(tile),
            depthwise_case(rng, image=image, multiplier=2, nesting=nesting).with_tile(tile),
            depthwise_case(rng, image=image, taps=(1 + number % 5, 1), nesting=nesting).with_tile(tile),
            fully_connected_case(
                rng, batches=1, inputs=71 * depth, outputs=5 + number, nesting=nesting
            ).with_tile(tile),
            fully_connected_case(rng, batches=1, inputs=16 * depth, outputs=3).with_tile(tile),
            fully_connected_case(rng, batches=2, inputs=9 * depth, outputs=11, nesting=nesting).with_tile(
                tile
            ),
        ]
    for inputs in (1024, 1040, 2048, 2051, 3000, 4000):
        for nesting in (*NESTINGS, None):
            made.append(fully_connected_case(rng, batches=1, inputs=inputs, outputs=3, nesting=nesting))
    return made


@pytest.mark.parametrize("core", BOARDS)
def test_scratch_is_what_the_kernels_ask_for(core: Core, tmp_path: Path) -> None:
    require_emulator()
    board, drawn = BOARDS[core], cases()
    measured = measure(board, build(board, tmp_path), drawn, tmp_path)
    for case, found in zip(drawn, measured, strict=True):
        call = Call(FUNCTIONS[case.kernel], case.params, (Argument(0),), (Argument(1),))
        assert call.scratch(core) == found.scratch_bytes, case.params
        assert found.wrong == 0
