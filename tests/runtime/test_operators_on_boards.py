"""The kernels without weights on emulated boards: every variant gives the bits of the reference kernels."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tests.firmware_sim.monitor import require_emulator
from tests.operator_sweep import draw
from tests.runtime.operator_board import Case, batches, build, measure
from tests.runtime.operator_library import node_of, row_of, swept
from tests.single_operator import GraphBuilder
from tflnest.device import supported_on_device
from tflnest.errors import TflnestError
from tflnest.kernels import prepare

#: Boards, and the flags of variants that their cores would not take by themselves.
BOARDS = {
    "plain C on Cortex-M0": ("microbit", []),
    "plain C on Cortex-M3": ("mps2-an385", []),
    "DSP extension on Cortex-M4": ("mps2-an386", []),
    "DSP extension on Cortex-M7": ("mps2-an500", []),
    "MVE on Cortex-M55": ("mps3-an547", []),
    "plain C on Cortex-M55": ("mps3-an547", ["-DTFLNEST_PORTABLE"]),
}
#: Left to the slow run: their code is that of another one.
SLOW = ("DSP extension on Cortex-M7", "plain C on Cortex-M55")

#: That many fit every board.
CASES = 500


@cache
def swept_cases() -> tuple[Case, ...]:
    """Random models of every operator, sane ones and extreme ones."""
    cases = []
    for name in swept():
        for seed, extreme in ((0, False), (1, False), (2, False), (0, True), (1, True)):
            drawn = draw(name, seed, extreme)
            node = node_of(drawn.model)
            try:
                prepare(node)
            except TflnestError:
                continue
            if supported_on_device(node) is None:
                cases.append(Case(node, row_of(drawn.model, node, drawn.inputs[0])))
    return tuple(cases)


def _case(graph: GraphBuilder, output: int, rng: np.random.Generator) -> Case:
    content = graph.build([output])
    node = node_of(content)
    sources = [tensor for tensor in node.inputs if tensor is not None and tensor.data is None]
    values = [rng.integers(-128, 127, tensor.shape, np.int8, endpoint=True) for tensor in sources]
    return Case(node, row_of(content, node, values))


@cache
def quick_cases() -> tuple[Case, ...]:
    """What the quick forms compute: vectors with and without a rest, rows at any address, both sides of limits."""
    rng = np.random.default_rng(5)
    cases = []
    for name in ("ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM"):
        for shapes in (((67,), (67,)), ((5, 7, 19), (7, 19)), ((3, 21), (3, 1)), ((4, 40), (1, 40))):
            for scales in (
                (0.1, 0.1, 0.1),
                (0.1, 0.001, 0.09),
                (0.02, 0.3, 0.2),
                (0.1, 0.2, 3.0),
                (0.5, 0.6, 1.5e-6),
            ):
                graph = GraphBuilder()
                points = [int(point) for point in rng.integers(-128, 128, 3)]
                inputs = [graph.input(shapes[i], "INT8", scales[i], points[i]) for i in range(2)]
                output = graph.tensor(shapes[0], "INT8", scales[2], points[2])
                options = {} if name[1] in "AI" else {"fused_activation_function": "RELU6"}
                graph.operator(name, inputs, [output], **options)
                cases.append(_case(graph, output, rng))
    for name in ("AVERAGE_POOL_2D", "MAX_POOL_2D"):
        for size, channels in (((16, 16), 21), ((17, 17), 9), ((3, 2), 37)):
            graph = GraphBuilder()
            source = graph.input((1, 17, 17, channels), "INT8", 0.1, 3)
            output = graph.tensor((1, 9, 9, channels), "INT8", 0.1, 3)
            window = {"padding": "SAME", "stride_h": 2, "stride_w": 2, "fused_activation_function": "RELU6"}
            graph.operator(name, [source], [output], filter_height=size[0], filter_width=size[1], **window)
            cases.append(_case(graph, output, rng))
    return tuple(cases)


@pytest.mark.parametrize(
    "variant", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in BOARDS]
)
def test_outputs_equal_the_reference(variant: str, tmp_path: Path) -> None:
    require_emulator()
    board, flags = BOARDS[variant]
    image = build(board, tmp_path, flags=flags)
    groups = batches(board, [*swept_cases(), *quick_cases()])
    assert sum(map(len, groups)) > CASES
    for group in groups:
        wrong = [
            (case.node.operator.name, result.wrong)
            for case, result in zip(group, measure(board, image, group, tmp_path), strict=True)
            if result.wrong
        ]
        assert not wrong
