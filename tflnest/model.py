"""Read, edit and write `.tflite` files without losing what they hold.

`Model` owns the schema's object tree (`model.tree`, a `ModelT`) for those who edit, and offers the immutable
`model.graph` for those who only read. Buffers are written at 16-byte aligned offsets, which the flatbuffers
package does not do by itself.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from numpy.typing import NDArray

from tflnest import container, controller_entry, flatbuffer
from tflnest.container import BUFFER_ALIGNMENT, Directory
from tflnest.controller_entry import Controller
from tflnest.errors import FormatError, UnsupportedError
from tflnest.files import read_file, write_file
from tflnest.graph import DTYPES, Graph, Operator, Quantization, Signature, Subgraph, Tensor
from tflnest.nested import check_pages, is_nested
from tflnest.schema import enum_names, enum_value, schema

FILE_IDENTIFIER = b"TFL3"

#: Elements of the largest tensor that is taken for real. A hostile shape must not make anyone allocate.
MAX_TENSOR_ELEMENTS = 1 << 31

#: Dimensions of the tensor with the most; numpy has at least as many.
MAX_TENSOR_RANK = 32


class Model:
    """A TensorFlow Lite model in memory.

    Args:
        tree: The schema's object tree (`ModelT`). Whoever edits it calls `changed()` afterwards.
        source: The bytes the tree was read from; None for a tree that was built.
    """

    def __init__(self, tree: Any, source: bytes | None = None) -> None:
        self.tree = tree
        self.source = source

    @classmethod
    def load(cls, path: str | Path) -> Model:
        """Read a `.tflite` file.

        Raises:
            FormatError: The file is missing, truncated or corrupt.
        """
        return cls.from_bytes(read_file(path), name=str(path))

    @classmethod
    def from_bytes(cls, content: bytes, name: str = "model", *, has_lower_pages: bool = True) -> Model:
        """Read a model from memory; every offset, size and index is checked first.

        Args:
            content: The file.
            name: What messages call it.
            has_lower_pages: False where the contents of all pages but the base page are yet to come: then their CRCs
                and the identity cannot be checked.

        Raises:
            FormatError: The content is not a sound `.tflite` file; the message starts with `name`.
        """
        try:
            tree = flatbuffer.read_tree(content)
            _fill_lists(tree)
            model = cls(tree, content)
            model._inline_large_buffers(content)
            model._verify_directory(content, has_lower_pages)
        except FormatError as error:
            raise FormatError(f"{name}: {error.message}", error.hint) from error
        return model

    @cached_property
    def graph(self) -> Graph:
        """The model as immutable objects."""
        return _build_graph(self.tree)

    @cached_property
    def directory(self) -> Directory | None:
        """The page directory of a nested model; None for a plain one."""
        content = self.graph.metadata.get(container.METADATA_NAME)
        return None if content is None else container.decode(content)

    @cached_property
    def controller(self) -> Controller | None:
        """What chooses the widths of a nested model for each input; None where nothing does."""
        content = self.graph.metadata.get(controller_entry.METADATA_NAME)
        return None if content is None else controller_entry.decode(content)

    def changed(self) -> None:
        """Forget what was derived from `tree`; call it after an edit."""
        self.source = None
        self.__dict__.pop("graph", None)
        self.__dict__.pop("directory", None)
        self.__dict__.pop("controller", None)

    def to_bytes(self) -> bytes:
        """Serialise. A model that was read and not edited gives the bytes that it was read from.

        The directory of a nested model is completed anew: offsets, sizes, CRCs and identity.
        """
        if self.source is None:
            content = pack_tree(self.tree)
            buffer = metadata_buffer(self.tree, container.METADATA_NAME)
            if buffer is not None:
                content = container.seal(content, buffer, flatbuffer.buffer_extents(content))
            self.source = content
        return self.source

    def save(self, path: str | Path, force: bool = False) -> None:
        """Write the file as a whole or not at all.

        Raises:
            UsageError: The file exists and `force` is false.
        """
        write_file(path, self.to_bytes(), force=force)

    def copy(self) -> Model:
        """A model that can be edited without changing this one."""
        return Model.from_bytes(self.to_bytes())

    def _verify_directory(self, content: bytes, has_lower_pages: bool) -> None:
        """Check a nested file against its directory, so that whoever holds a `Model` can trust both."""
        directory = self.directory
        if directory is None:
            if any(is_nested(operator) for sub in self.graph.subgraphs for operator in sub.operators):
                raise FormatError(
                    "the model has nested operators and no TFLNEST metadata: it was cut or rewritten"
                )
            if controller_entry.METADATA_NAME in self.graph.metadata:
                raise FormatError(
                    "the model has a controller and no TFLNEST metadata: it was cut or rewritten"
                )
            return
        names = [_text(entry.name) for entry in self.tree.metadata]
        for name in (container.METADATA_NAME, controller_entry.METADATA_NAME):
            if names.count(name) > 1:
                raise FormatError(f"the model has more than one {name} metadata entry")
        buffer = metadata_buffer(self.tree, container.METADATA_NAME)
        extents = flatbuffer.buffer_extents(content)
        assert buffer is not None
        container.verify(content, directory, extents[buffer][0], extents, has_lower_pages)
        check_pages(self.graph, directory)
        if self.controller is not None:
            self.controller.validate(self.graph, directory)

    def _inline_large_buffers(self, content: bytes) -> None:
        """Bring data that lies behind the flatbuffer (files over 2 GB) into the tree."""
        behind = _Behind(content)
        for index, buffer in enumerate(self.tree.buffers or []):
            if buffer.offset > 1:
                buffer.data = behind.read(buffer.offset, buffer.size, f"buffer {index}")
                buffer.offset = buffer.size = 0
                self.source = None
        for subgraph in self.tree.subgraphs or []:
            for index, operator in enumerate(subgraph.operators or []):
                offset = operator.largeCustomOptionsOffset
                if offset > 1:
                    size = operator.largeCustomOptionsSize
                    operator.customOptions = behind.read(offset, size, f"options of operator {index}")
                    operator.largeCustomOptionsOffset = operator.largeCustomOptionsSize = 0
                    self.source = None


def _fill_lists(tree: Any) -> None:
    """Make absent vectors of objects empty ones, so that whoever edits the tree can iterate and append."""
    tree.buffers = tree.buffers or [schema().BufferT()]
    tree.operatorCodes = tree.operatorCodes or []
    tree.subgraphs = tree.subgraphs or []
    for subgraph in tree.subgraphs:
        subgraph.tensors = subgraph.tensors or []
        subgraph.operators = subgraph.operators or []


class _Behind:
    """Reads what lies behind the flatbuffer; everything together may take what the file has."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._left = len(content)

    def read(self, offset: int, size: int, what: str) -> NDArray[np.uint8]:
        total = len(self._content)
        self._left -= size
        if offset + size > total or self._left < 0:
            raise FormatError(f"{what} lies at {offset:,} with {size:,} bytes, and the file has {total:,}")
        return np.frombuffer(self._content, np.uint8, size, offset)


# ---------------------------------------------------------------------------------------------- writing


def pack_tree(tree: Any) -> bytes:
    """Serialise a `ModelT` with every buffer at a 16-byte aligned file offset.

    Raises:
        UnsupportedError: It takes 2 GiB or more, which a flatbuffer can't hold.
    """
    builder = flatbuffers.Builder(1 << 20)
    original = schema().BufferT.Pack
    try:
        schema().BufferT.Pack = _pack_buffer
        builder.Finish(tree.Pack(builder), FILE_IDENTIFIER)
    except flatbuffers.builder.BuilderSizeError as error:
        raise UnsupportedError("the model takes 2 GiB or more, which is not supported") from error
    finally:
        schema().BufferT.Pack = original
    return bytes(builder.Output())


def _pack_buffer(buffer: Any, builder: Any) -> int:
    """`BufferT.Pack` that honours the schema's `force_align: 16`."""
    module = schema()
    data = None
    if buffer.data is not None:
        content = np.ascontiguousarray(np.asarray(buffer.data, dtype=np.uint8)).reshape(-1)
        builder.StartVector(1, content.size, BUFFER_ALIGNMENT)
        builder.head = builder.Head() - content.size
        builder.Bytes[builder.Head() : builder.Head() + content.size] = content.tobytes()
        builder.vectorNumElems = content.size
        data = builder.EndVector()
    module.BufferStart(builder)
    if data is not None:
        module.BufferAddData(builder, data)
    module.BufferAddOffset(builder, buffer.offset)
    module.BufferAddSize(builder, buffer.size)
    return int(module.BufferEnd(builder))


# ---------------------------------------------------------------------------------------------- reading


def _build_graph(tree: Any) -> Graph:
    buffers = tree.buffers or []
    opcodes = [_opcode_name(code, index) for index, code in enumerate(tree.operatorCodes or [])]
    if not tree.subgraphs:
        raise FormatError("the model has no subgraph")
    for index in _ints(tree.metadataBuffer):
        _check_index(index, len(buffers), "a metadata buffer", "buffers")
    subgraphs = tuple(
        _build_subgraph(index, sub, buffers, opcodes) for index, sub in enumerate(tree.subgraphs)
    )
    graph = Graph(
        subgraphs=subgraphs,
        signatures=tuple(_build_signature(item, subgraphs) for item in tree.signatureDefs or []),
        metadata=_metadata(tree.metadata or [], buffers),
        description=_text(tree.description),
    )
    return graph


def _text(value: bytes | str | None) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else value.decode("utf-8", errors="replace")


def _ints(value: Any) -> tuple[int, ...]:
    """A schema vector as a tuple: None when absent, 0 from flatbuffers' accessor when empty."""
    if value is None or isinstance(value, int):
        return ()
    return tuple(int(item) for item in value)


def _opcode_name(code: Any, index: int) -> tuple[str, int, bool]:
    """Name, version and whether it is custom. Old files keep the code in `deprecatedBuiltinCode`."""
    value = max(code.builtinCode, code.deprecatedBuiltinCode)
    name = enum_names("BuiltinOperator").get(value)
    if name is None:
        raise FormatError(f"operator code {index} is {value}, which the TFLite schema does not define")
    if name == "CUSTOM":
        return _text(code.customCode), int(code.version), True
    return name, int(code.version), False


def _metadata(entries: list[Any], buffers: list[Any]) -> dict[str, bytes]:
    contents: dict[int, bytes] = {}
    named: dict[str, bytes] = {}
    for entry in entries:
        name = _text(entry.name)
        _check_index(entry.buffer, len(buffers), f"the buffer of metadata {name!r}", "buffers")
        if entry.buffer not in contents:
            data = buffers[entry.buffer].data
            contents[entry.buffer] = b"" if data is None else np.asarray(data, dtype=np.uint8).tobytes()
        named.setdefault(name, contents[entry.buffer])  # the first of a name counts, as in `metadata_buffer`
    return named


def _build_signature(item: Any, subgraphs: tuple[Subgraph, ...]) -> Signature:
    key = _text(item.signatureKey)
    if not 0 <= item.subgraphIndex < len(subgraphs):
        raise FormatError(
            f"signature {key!r} names subgraph {item.subgraphIndex}, and there are {len(subgraphs)}"
        )
    count = len(subgraphs[item.subgraphIndex].tensors)

    def arguments(maps: Any) -> dict[str, int]:
        named = {_text(entry.name): int(entry.tensorIndex) for entry in maps or []}
        for name, index in named.items():
            _check_index(index, count, f"argument {name!r} of signature {key!r}", "tensors")
        return named

    return Signature(key, int(item.subgraphIndex), arguments(item.inputs), arguments(item.outputs))


def _check_index(index: int, count: int, what: str, things: str) -> None:
    if not 0 <= index < count:
        raise FormatError(f"{what} is {index}, and there are {count} {things}")


def _build_subgraph(
    index: int, sub: Any, buffers: list[Any], opcodes: list[tuple[str, int, bool]]
) -> Subgraph:
    where = f"subgraph {index}"
    tensors = tuple(
        _build_tensor(number, item, buffers, f"{where}, tensor {number}")
        for number, item in enumerate(sub.tensors or [])
    )
    operators = tuple(
        _build_operator(number, item, opcodes, len(tensors), f"{where}, operator {number}")
        for number, item in enumerate(sub.operators or [])
    )
    inputs, outputs = _ints(sub.inputs), _ints(sub.outputs)
    for name, indices in (("input", inputs), ("output", outputs)):
        for tensor in indices:
            _check_index(tensor, len(tensors), f"{where}: an {name} tensor", "tensors")
    return Subgraph(index, _text(sub.name), tensors, operators, inputs, outputs)


def _build_tensor(index: int, item: Any, buffers: list[Any], where: str) -> Tensor:
    type_name = enum_names("TensorType").get(item.type)
    if type_name is None:
        raise FormatError(f"{where}: type {item.type} is not defined by the TFLite schema")
    shape = _ints(item.shape)
    _check_shape(shape, where)
    _check_index(item.buffer, max(len(buffers), 1), f"{where}: its buffer", "buffers")
    tensor = Tensor(
        index=index,
        name=_text(item.name),
        shape=shape,
        shape_signature=_ints(item.shapeSignature) or shape,
        type=type_name,
        quantization=_quantization(item.quantization, where),
        buffer=int(item.buffer),
        is_variable=bool(item.isVariable),
    )
    data = _constant(tensor, buffers, where)
    return tensor if data is None else replace(tensor, data=data)


def _check_shape(shape: tuple[int, ...], where: str) -> None:
    if len(shape) > MAX_TENSOR_RANK:
        raise FormatError(f"{where}: it has {len(shape):,} dimensions, over {MAX_TENSOR_RANK}")
    if any(dimension < 0 for dimension in shape):
        raise FormatError(f"{where}: shape {list(shape)} has a negative dimension")
    # A dimension of 0 must not hide others that numpy could not address.
    elements = math.prod(max(dimension, 1) for dimension in shape)
    if elements > MAX_TENSOR_ELEMENTS:
        raise FormatError(
            f"{where}: shape {list(shape)} has {elements:,} elements, over {MAX_TENSOR_ELEMENTS:,}"
        )


def _quantization(item: Any, where: str) -> Quantization | None:
    if item is None or item.scale is None or isinstance(item.scale, int) or len(item.scale) == 0:
        return None
    scale = np.array(item.scale, dtype=np.float32)
    has_zero_point = (
        item.zeroPoint is not None and not isinstance(item.zeroPoint, int) and len(item.zeroPoint)
    )
    zero_point = np.array(item.zeroPoint if has_zero_point else [0], dtype=np.int64)
    if zero_point.size not in (1, scale.size):
        raise FormatError(f"{where}: {scale.size} scales and {zero_point.size} zero points")
    return Quantization(scale, zero_point, int(item.quantizedDimension))


def _constant(tensor: Tensor, buffers: list[Any], where: str) -> NDArray[Any] | None:
    data = buffers[tensor.buffer].data if tensor.buffer < len(buffers) else None
    if tensor.buffer == 0 or data is None or isinstance(data, int) or len(data) == 0:
        return None
    raw = np.asarray(data, dtype=np.uint8)
    if tensor.type not in DTYPES:
        expected = tensor.bytes
        if expected and raw.size != expected:
            raise FormatError(
                f"{where}: {tensor.type}{list(tensor.shape)} takes {expected:,} bytes, its buffer has {raw.size:,}"
            )
        return raw
    if raw.size != tensor.bytes:
        raise FormatError(
            f"{where}: {tensor.type}{list(tensor.shape)} takes {tensor.bytes:,} bytes, its buffer has {raw.size:,}"
        )
    values = raw.view(tensor.dtype).reshape(tensor.shape)  # a view: many tensors may share one large buffer
    values.flags.writeable = False
    return values


@cache
def _snake(name: str) -> str:
    """`dilationWFactor` -> `dilation_w_factor`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _option_value(name: str, value: Any) -> Any:
    if name == "padding":
        return enum_names("Padding").get(value, value)
    if name == "fused_activation_function":
        return enum_names("ActivationFunctionType").get(value, value)
    if isinstance(value, np.ndarray):
        return tuple(value.tolist())
    return value


def _options(item: Any) -> Mapping[str, Any]:
    options: dict[str, Any] = {}
    for part in (item.builtinOptions, item.builtinOptions2):
        for key, value in (vars(part) if part is not None else {}).items():
            name = _snake(key)
            options[name] = _option_value(name, value)
    return options


def _build_operator(
    index: int, item: Any, opcodes: list[tuple[str, int, bool]], tensors: int, where: str
) -> Operator:
    _check_index(item.opcodeIndex, len(opcodes), f"{where}: its operator code", "operator codes")
    name, version, is_custom = opcodes[item.opcodeIndex]
    inputs, outputs = _ints(item.inputs), _ints(item.outputs)
    for tensor in (*inputs, *_ints(item.intermediates)):
        if tensor != -1:
            _check_index(tensor, tensors, f"{where} ({name}): an input or intermediate tensor", "tensors")
    for tensor in outputs:
        _check_index(tensor, tensors, f"{where} ({name}): an output tensor", "tensors")
    if is_custom:
        custom = item.customOptions
        content = b"" if custom is None or isinstance(custom, int) else np.asarray(custom, np.uint8).tobytes()
        return Operator(index, name, version, inputs, outputs, {"custom_options": content}, True)
    return Operator(index, name, version, inputs, outputs, _options(item), False)


# ---------------------------------------------------------------------------------------------- editing


def opcode_index(tree: Any, name: str, version: int = 1, custom: bool = False) -> int:
    """Index of an operator code in `tree.operatorCodes`, added where it is missing."""
    if tree.operatorCodes is None:
        tree.operatorCodes = []
    for index, code in enumerate(tree.operatorCodes):
        found, found_version, is_custom = _opcode_name(code, index)
        if (found, is_custom) == (name, custom) and (custom or found_version == version):
            return index
    code = schema().OperatorCodeT()
    value = enum_value("BuiltinOperator", "CUSTOM" if custom else name)
    code.builtinCode = value
    code.deprecatedBuiltinCode = min(value, enum_value("BuiltinOperator", "PLACEHOLDER_FOR_GREATER_OP_CODES"))
    code.customCode = name if custom else None
    code.version = version
    tree.operatorCodes.append(code)
    return len(tree.operatorCodes) - 1


def add_buffer(tree: Any, data: bytes | NDArray[Any]) -> int:
    """Append a buffer and return its index."""
    buffer = schema().BufferT()
    buffer.data = np.frombuffer(
        data if isinstance(data, bytes) else np.ascontiguousarray(data).tobytes(), np.uint8
    )
    tree.buffers.append(buffer)
    return len(tree.buffers) - 1


def add_constant(tree: Any, subgraph: Any, values: NDArray[Any], type_name: str, name: str = "") -> int:
    """Append a constant tensor to a subgraph (`SubGraphT`) and return its index."""
    tensor = schema().TensorT()
    tensor.name = name
    tensor.shape = list(values.shape)
    tensor.type = enum_value("TensorType", type_name)
    tensor.buffer = add_buffer(tree, values)
    subgraph.tensors.append(tensor)
    return len(subgraph.tensors) - 1


def metadata_buffer(tree: Any, name: str) -> int | None:
    """Index of the buffer of a metadata entry; None where there is no such entry."""
    for entry in tree.metadata or []:
        if _text(entry.name) == name:
            return int(entry.buffer)
    return None


def set_metadata(tree: Any, name: str, content: bytes) -> int:
    """Set or replace a metadata entry; returns the buffer index that holds it."""
    existing = metadata_buffer(tree, name)
    if existing is not None:
        tree.buffers[existing].data = np.frombuffer(content, np.uint8)
        return existing
    entry = schema().MetadataT()
    entry.name = name
    entry.buffer = add_buffer(tree, content)
    tree.metadata = [*(tree.metadata or []), entry]
    return int(entry.buffer)


def load(path: str | Path) -> Model:
    """Read a `.tflite` file, nested or plain; the same as `Model.load`."""
    return Model.load(path)
