"""What a model computes, as immutable Python objects.

A `Graph` is read from a `.tflite` file by `tflnest.model`; interpreters, planners and reports read it and
never see the flatbuffer. Names are those of the TFLite schema, in snake_case.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tflnest.errors import UnsupportedError

#: numpy dtype of each TFLite tensor type that numpy can hold.
DTYPES: dict[str, np.dtype[Any]] = {
    "FLOAT32": np.dtype(np.float32),
    "FLOAT16": np.dtype(np.float16),
    "FLOAT64": np.dtype(np.float64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "BOOL": np.dtype(np.bool_),
    "COMPLEX64": np.dtype(np.complex64),
    "COMPLEX128": np.dtype(np.complex128),
}

#: Bits of one element of the types that numpy cannot hold.
SUB_BYTE_BITS = {"INT4": 4, "UINT4": 4, "INT2": 2}


@dataclass(frozen=True, eq=False)
class Quantization:
    """Affine quantization: real = scale * (q - zero_point).

    Attributes:
        scale: float32, shape (1,) per tensor or (channels,) per channel; all > 0 in a sane model.
        zero_point: int64, same length as `scale`, or length 1.
        axis: The quantized dimension; means something only per channel.
    """

    scale: NDArray[np.float32]
    zero_point: NDArray[np.int64]
    axis: int = 0

    @property
    def per_channel(self) -> bool:
        """Whether there is more than one scale."""
        return self.scale.size > 1

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Quantization)
            and self.axis == other.axis
            and np.array_equal(self.scale, other.scale)
            and np.array_equal(self.zero_point, other.zero_point)
        )

    def __hash__(self) -> int:
        return hash((self.scale.tobytes(), self.zero_point.tobytes(), self.axis))


@dataclass(frozen=True)
class Tensor:
    """One tensor of a subgraph.

    Attributes:
        index: Position in `Subgraph.tensors`.
        name: As in the file; may be empty.
        shape: Static shape; () for a scalar. Unknown dimensions are 1 here and -1 in `shape_signature`.
        shape_signature: As in the file, or equal to `shape` where the file has none.
        type: Name of the TFLite type ("INT8", "FLOAT32", ...).
        quantization: None where the tensor has no scale.
        buffer: Index of the buffer in the model (0 is the empty one).
        data: Constant data, read-only, shaped like `shape`; None for activations and variables, and raw
            bytes (uint8, 1-D) for types that numpy cannot hold.
        is_variable: Whether the tensor keeps its value between invokes.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    shape_signature: tuple[int, ...]
    type: str
    quantization: Quantization | None
    buffer: int
    data: NDArray[Any] | None = field(default=None, compare=False)
    is_variable: bool = False

    @property
    def is_constant(self) -> bool:
        """Whether the file holds the values."""
        return self.data is not None

    @property
    def dtype(self) -> np.dtype[Any]:
        """The numpy dtype.

        Raises:
            UnsupportedError: The type has no numpy dtype (INT4, STRING, ...).
        """
        try:
            return DTYPES[self.type]
        except KeyError:
            raise UnsupportedError(
                f"tensor {self.label} has type {self.type}, which tflnest cannot compute with"
            ) from None

    @cached_property
    def size(self) -> int:
        """Number of elements."""
        size = 1
        for dimension in self.shape:
            size *= dimension
        return size

    @property
    def bytes(self) -> int:
        """Bytes that the values take in memory (sub-byte types are packed)."""
        if self.type in SUB_BYTE_BITS:
            return (self.size * SUB_BYTE_BITS[self.type] + 7) // 8
        if self.type not in DTYPES:
            return 0
        return self.size * DTYPES[self.type].itemsize

    @property
    def label(self) -> str:
        """How messages call the tensor: index and name."""
        return f"{self.index} ({self.name!r})" if self.name else str(self.index)

    @property
    def scale(self) -> float:
        """The per-tensor scale; 0.0 where there is none."""
        return float(self.quantization.scale[0]) if self.quantization is not None else 0.0

    @property
    def zero_point(self) -> int:
        """The per-tensor zero point; 0 where there is none."""
        quantization = self.quantization
        return (
            int(quantization.zero_point[0])
            if quantization is not None and quantization.zero_point.size
            else 0
        )


@dataclass(frozen=True)
class Operator:
    """One operator of a subgraph.

    Attributes:
        index: Position in `Subgraph.operators`, which is execution order.
        name: Name of the builtin operator ("CONV_2D"), or the custom code of a custom one.
        version: Operator version in the file.
        inputs: Tensor indices; -1 marks an optional input that is absent.
        outputs: Tensor indices.
        options: The builtin options table, keys in snake_case as in the schema ("stride_w",
            "fused_activation_function"); padding and activation are names ("SAME", "RELU6"), other enums
            are integers. For custom operators {"custom_options": bytes}.
        is_custom: Whether this is a custom operator.
    """

    index: int
    name: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any]
    is_custom: bool = False

    @property
    def label(self) -> str:
        """How messages call the operator: index and name."""
        return f"{self.index} ({self.name})"


@dataclass(frozen=True)
class Subgraph:
    """A list of operators over a list of tensors, in execution order."""

    index: int
    name: str
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def input_tensors(self) -> tuple[Tensor, ...]:
        """The tensors that a caller fills."""
        return tuple(self.tensors[index] for index in self.inputs)

    def output_tensors(self) -> tuple[Tensor, ...]:
        """The tensors that a caller reads."""
        return tuple(self.tensors[index] for index in self.outputs)


@dataclass(frozen=True)
class Signature:
    """A named entry point: tensor indices by argument name."""

    key: str
    subgraph: int
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]


@dataclass(frozen=True)
class Graph:
    """Everything that a model computes.

    Attributes:
        subgraphs: At least one; the first is the entry point.
        signatures: Named entry points; may be empty.
        metadata: Contents of the file's metadata entries by name.
        description: Free text of the file.
    """

    subgraphs: tuple[Subgraph, ...]
    signatures: tuple[Signature, ...] = ()
    metadata: Mapping[str, bytes] = field(default_factory=dict)
    description: str = ""

    @property
    def main(self) -> Subgraph:
        """The entry point."""
        return self.subgraphs[0]
