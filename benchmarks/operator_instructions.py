"""Instructions of the kernels without weights on an emulated board, against TFLM with CMSIS-NN.

    python -m benchmarks.operator_instructions               # Cortex-M4
    python -m benchmarks.operator_instructions --core m55

The operators are those of MLPerf Tiny's models and some more, with random values; every output is compared with the
reference kernel. The peer's figures are in tflm_instructions.json. Instructions are not cycles.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.instructions import BOARDS, PEER
from tests.runtime.operator_board import Case, build, measure
from tests.runtime.operator_library import node_of, row_of
from tests.single_operator import GraphBuilder
from tflnest.errors import ExitCode

#: Which of the peer's figures stands beside ours; of M3 and M7 there are none per operator.
PEER_COLUMN = {"m4": "cortex_m4", "m55": "cortex_m55_clang"}

Shape = tuple[int, ...]


def _case(graph: GraphBuilder, output: int) -> Case:
    """The only operator of a model with random values."""
    content = graph.build([output])
    node = node_of(content)
    rng = np.random.default_rng(1)
    sources = [tensor for tensor in node.inputs if tensor is not None and tensor.data is None]
    values = [rng.integers(-128, 127, tensor.shape, np.int8, endpoint=True) for tensor in sources]
    return Case(node, row_of(content, node, values))


def pair_case(name: str, shape: Shape, second: Shape | None = None, activation: str = "NONE") -> Case:
    """A binary operator on inputs of two scales."""
    graph = GraphBuilder()
    inputs = [graph.input(shape, "INT8", 0.05, 3), graph.input(second or shape, "INT8", 0.03, -7)]
    output = graph.tensor(shape, "INT8", 0.06 if name != "MUL" else 0.1, -11)
    options = {"fused_activation_function": activation} if name in ("ADD", "SUB", "MUL") else {}
    graph.operator(name, inputs, [output], **options)
    return _case(graph, output)


def pool_case(name: str, shape: Shape, size: Shape, stride: int) -> Case:
    """A pooling operator without padding."""
    graph = GraphBuilder()
    source = graph.input((1, *shape), "INT8", 0.05, 3)
    target = [(extent - part) // stride + 1 for extent, part in zip(shape, size, strict=False)]
    output = graph.tensor((1, *target, shape[2]), "INT8", 0.05, 3)
    window = {"padding": "VALID", "stride_h": stride, "stride_w": stride}
    graph.operator(name, [source], [output], filter_height=size[0], filter_width=size[1], **window)
    return _case(graph, output)


def softmax_case(depth: int) -> Case:
    """SOFTMAX of one row."""
    graph = GraphBuilder()
    source = graph.input((1, depth), "INT8", 0.15, 3)
    output = graph.tensor((1, depth), "INT8", 1 / 256, -128)
    graph.operator("SOFTMAX", [source], [output], beta=1.0)
    return _case(graph, output)


def mean_case(shape: Shape) -> Case:
    """MEAN over height and width."""
    graph = GraphBuilder()
    source = graph.input((1, *shape), "INT8", 0.05, 3)
    output = graph.tensor((1, shape[2]), "INT8", 0.03, 3)
    graph.operator("MEAN", [source, graph.constant(np.array([1, 2], np.int32))], [output], keep_dims=False)
    return _case(graph, output)


def lookup_case(shape: Shape) -> Case:
    """LOGISTIC, a table."""
    graph = GraphBuilder()
    output = graph.tensor(shape, "INT8", 1 / 256, -128)
    graph.operator("LOGISTIC", [graph.input(shape, "INT8", 0.05, 3)], [output])
    return _case(graph, output)


def pad_case(shape: Shape) -> Case:
    """PAD of one row and one column."""
    graph = GraphBuilder()
    source = graph.input((1, *shape), "INT8", 0.05, 3)
    output = graph.tensor((1, shape[0] + 1, shape[1] + 1, shape[2]), "INT8", 0.05, 3)
    pads = np.array([[0, 0], [0, 1], [0, 1], [0, 0]], np.int32)
    graph.operator("PAD", [source, graph.constant(pads)], [output])
    return _case(graph, output)


def transpose_case(shape: Shape) -> Case:
    """TRANSPOSE from planes of channels to pixels."""
    graph = GraphBuilder()
    source = graph.input((1, *shape), "INT8", 0.05, 3)
    output = graph.tensor((1, *shape[1:], shape[0]), "INT8", 0.05, 3)
    graph.operator("TRANSPOSE", [source, graph.constant(np.array([0, 2, 3, 1], np.int32))], [output])
    return _case(graph, output)


#: Name, maker, and the peer's model and index where it has the operator.
CASES: tuple[tuple[str, Callable[[], Case], tuple[str, int] | None], ...] = (
    ("ADD 32x32x16", lambda: pair_case("ADD", (1, 32, 32, 16)), ("resnet8", 3)),
    ("ADD 16x16x32", lambda: pair_case("ADD", (1, 16, 16, 32)), ("resnet8", 7)),
    ("ADD 8x8x64", lambda: pair_case("ADD", (1, 8, 8, 64)), ("resnet8", 11)),
    ("ADD 32x32x16, RELU", lambda: pair_case("ADD", (1, 32, 32, 16), None, "RELU"), None),
    ("ADD 32x32x16 + 16", lambda: pair_case("ADD", (1, 32, 32, 16), (16,)), None),
    ("SUB 32x32x16", lambda: pair_case("SUB", (1, 32, 32, 16)), None),
    ("MUL 32x32x16", lambda: pair_case("MUL", (1, 32, 32, 16)), None),
    ("MUL 32x32x16 * 16", lambda: pair_case("MUL", (1, 32, 32, 16), (1, 1, 1, 16)), None),
    ("MAXIMUM 32x32x16", lambda: pair_case("MAXIMUM", (1, 32, 32, 16)), None),
    ("AVERAGE_POOL_2D 25x5x64", lambda: pool_case("AVERAGE_POOL_2D", (25, 5, 64), (25, 5), 1), ("kws", 9)),
    ("AVERAGE_POOL_2D 8x8x64", lambda: pool_case("AVERAGE_POOL_2D", (8, 8, 64), (8, 8), 1), ("resnet8", 12)),
    ("AVERAGE_POOL_2D 3x3x256", lambda: pool_case("AVERAGE_POOL_2D", (3, 3, 256), (3, 3), 1), ("vww", 27)),
    ("AVERAGE_POOL_2D 24x24x32, 2x2", lambda: pool_case("AVERAGE_POOL_2D", (24, 24, 32), (2, 2), 2), None),
    ("MAX_POOL_2D 24x24x32, 2x2", lambda: pool_case("MAX_POOL_2D", (24, 24, 32), (2, 2), 2), None),
    ("SOFTMAX 12", lambda: softmax_case(12), ("kws", 12)),
    ("SOFTMAX 10", lambda: softmax_case(10), ("resnet8", 15)),
    ("SOFTMAX 2", lambda: softmax_case(2), ("vww", 30)),
    ("MEAN 7x7x1280", lambda: mean_case((7, 7, 1280)), None),
    ("LOGISTIC 32x32x16", lambda: lookup_case((1, 32, 32, 16)), None),
    ("PAD 32x32x16", lambda: pad_case((32, 32, 16)), None),
    ("TRANSPOSE 3x96x96", lambda: transpose_case((3, 96, 96)), None),
)


def peer_instructions(place: tuple[str, int] | None, column: str | None) -> int | None:
    """The peer's figure for a model and index; None where it has none."""
    rows: list[dict[str, Any]] = json.loads(PEER.read_text(encoding="utf-8"))["layers"]
    found = [row for row in rows if place == (row["model"], row["index"])]
    return int(found[0][column]) if found and column else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; returns 4 where an output is wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--core", choices=BOARDS, default="m4")
    parser.add_argument("--optimize", default="-O2")
    parser.add_argument("--flag", action="append", default=[], help="further flag of the compiler")
    options = parser.parse_args(arguments)
    board, cases = BOARDS[options.core], [make() for _, make, _ in CASES]
    with tempfile.TemporaryDirectory() as folder:
        image = build(board, Path(folder), options.optimize, options.flag)
        measured = [measure(board, image, [case], Path(folder), count=True)[0] for case in cases]
    print("| operator | instructions | per element | peer | ratio |\n|---|---|---|---|---|")
    for (name, _, place), case, result in zip(CASES, cases, measured, strict=True):
        elements = max(prod(tensor.shape) for tensor in (*case.node.inputs[:1], *case.node.outputs) if tensor)
        peer = peer_instructions(place, PEER_COLUMN.get(options.core))
        cells = [name, str(result.instructions), f"{result.instructions / elements:.2f}"]
        cells += ["", ""] if peer is None else [str(peer), f"{result.instructions / peer:.3f}"]
        print("| " + " | ".join(cells) + " |" + (f" {result.wrong} WRONG" if result.wrong else ""))
    return ExitCode.VERIFICATION if any(result.wrong for result in measured) else ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
