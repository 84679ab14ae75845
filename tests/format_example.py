"""The example of FORMAT.md, section 14.

`python -m tests.format_example` prints the listing of the file, for whoever changes the format.
"""

from __future__ import annotations

import numpy as np

from converters.nest import nest
from converters.parameters import LevelParameters
from converters.planning import plan_nesting, round_filters
from converters.recipe import Recipe
from tests.single_operator import GraphBuilder
from tflnest.model import Model

SHAPE = (3, 6)
LEVELS = (4, 6, 8)
BIASES = ((116, -184, 316), (104, -196, 304), (100, -200, 300))


def weights() -> np.ndarray:
    """The int8 filter of the source: w[k] = (37 k + 5) mod 256 - 128."""
    return ((37 * np.arange(18) + 5) % 256 - 128).astype(np.int8).reshape(SHAPE)


def build() -> bytes:
    """The nested file."""
    builder = GraphBuilder()
    builder.tree.description = None
    builder.subgraph.name = None
    activation = builder.input((1, 6), scale=0.1, zero_point=-3)
    filter_index = builder.constant(weights(), scale=[0.01, 0.02, 0.005])
    bias = builder.constant(np.array(BIASES[-1], np.int32), scale=[0.001, 0.002, 0.0005])
    output = builder.tensor((1, 3), scale=0.3, zero_point=7)
    builder.operator(
        "FULLY_CONNECTED",
        [activation, filter_index, bias],
        [output],
        version=4,
        fused_activation_function="RELU",
    )
    for tensor, name in zip(builder.subgraph.tensors, ("x", "w", None, "y"), strict=True):
        tensor.name = name
    source = Model.from_bytes(builder.build([output]))
    recipe = Recipe(levels=LEVELS)
    filters = round_filters(plan_nesting(source.graph, recipe), 0)
    levels = [LevelParameters(np.array(bias, np.int32)) for bias in BIASES]
    return nest(source, filters, {(0, 0): levels}, recipe).to_bytes()


def listing(content: bytes) -> str:
    """Offset and hexadecimal bytes, 16 to a line."""
    lines = []
    for start in range(0, len(content), 16):
        row = content[start : start + 16]
        text = "".join(chr(byte) if 32 < byte < 127 else "." for byte in row)
        lines.append(f"{start:04x}  {row[:8].hex(' ')}  {row[8:].hex(' ')}  {text}")
    return "\n".join(lines)


if __name__ == "__main__":
    print(listing(build()))  # noqa: T201
