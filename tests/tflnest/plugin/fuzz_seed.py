"""Writes the nested operators of a model in the form that tests/fuzz/fuzz_plugin.c reads."""

from __future__ import annotations

import struct
from pathlib import Path

from tflnest import container
from tflnest.graph import Subgraph, Tensor
from tflnest.model import Model
from tflnest.nested import PREFIX, STOCK_OPTIONS, is_nested
from tflnest.schema import enum_value


def words(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}i", *values)


def tensor_bytes(tensor: Tensor) -> bytes:
    content = b"" if tensor.data is None else tensor.data.tobytes()
    head = words(enum_value("TensorType", tensor.type), int(tensor.is_constant))
    head += struct.pack("<fi", tensor.scale, tensor.zero_point)
    head += words(len(tensor.shape), *tensor.shape, tensor.bytes)
    return head + content


def subgraph_bytes(subgraph: Subgraph, directory: bytes) -> bytes:
    parts = [words(len(directory)), directory, words(len(subgraph.tensors))]
    parts += [tensor_bytes(tensor) for tensor in subgraph.tensors]
    nested = [operator for operator in subgraph.operators if is_nested(operator)]
    parts.append(words(len(nested)))
    for operator in nested:
        options = operator.options["custom_options"]
        code = list(STOCK_OPTIONS).index(operator.name.removeprefix(PREFIX))
        parts.append(words(code, len(operator.inputs), *operator.inputs, operator.outputs[0], len(options)))
        parts.append(options)
    return b"".join(parts)


def write_seed(model: Model, path: Path) -> None:
    """Write a nested model's first subgraph."""
    path.write_bytes(subgraph_bytes(model.graph.main, model.graph.metadata[container.METADATA_NAME]))
