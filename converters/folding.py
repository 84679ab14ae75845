"""Fix the batch to one sample, and fold what thereby becomes constant.

A model that was exported for any batch computes some of its shapes while it runs (SHAPE, STRIDED_SLICE, PACK
in front of a RESHAPE). Microcontrollers run one sample at a time, so those are constants.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tflnest.errors import TflnestError, UnsupportedError
from tflnest.graph import Operator, Subgraph, Tensor
from tflnest.kernels import Node, prepare
from tflnest.model import Model, add_buffer
from tflnest.pruning import prune
from tflnest.schema import runtime

#: A constant is folded only up to this many bytes: shape arithmetic is small, and folding must not grow a file.
FOLD_LIMIT_BYTES = 1 << 16


def fix_batch(model: Model) -> Model:
    """Fix the batch of a model to 1 and fold the operators that are then constant.

    Folded operators and the tensors and buffers that only they used are removed; everything else stays as it
    is. A model with nothing to fix or to fold is returned itself.

    Args:
        model: Any model, float or quantized; it is not changed.

    Returns:
        A model whose shapes are all static.

    Raises:
        UnsupportedError: A dimension other than the batch is unknown, for an input or for a tensor whose
            shape stock TFLite cannot find either.
    """
    _check_inputs(model.graph.main)
    dynamic = any(-1 in tensor.shape_signature for sub in model.graph.subgraphs for tensor in sub.tensors)
    if not dynamic and not any(_fold(sub) for sub in model.graph.subgraphs):
        return model
    fixed = model.copy()
    if dynamic:
        _fix_shapes(fixed)
    for subgraph, tree in zip(fixed.graph.subgraphs, fixed.tree.subgraphs, strict=True):
        _replace(fixed.tree, tree, subgraph, _fold(subgraph))
    fixed.changed()
    return fixed


def _check_inputs(subgraph: Subgraph) -> None:
    for tensor in subgraph.input_tensors():
        if -1 in tensor.shape_signature[1:]:
            raise UnsupportedError(
                f"input {tensor.label} has shape {list(tensor.shape_signature)}: only the batch may be unknown",
                "export the model with a fixed input shape",
            )


def _fix_shapes(model: Model) -> None:
    """Make the stored shapes, where unknown dimensions count as 1, the static ones."""
    unsure = any(-1 in tensor.shape_signature[1:] for tensor in model.graph.main.tensors)
    shapes = _runtime_shapes(model) if unsure else {}
    for subgraph in model.tree.subgraphs:
        for tensor in subgraph.tensors:
            tensor.shapeSignature = None
    for index, shape in shapes.items():
        model.tree.subgraphs[0].tensors[index].shape = np.array(shape, dtype=np.int32)
    model.changed()


def _runtime_shapes(model: Model) -> dict[int, tuple[int, ...]]:
    """Shapes of the activations of the main subgraph as stock TFLite finds them for one sample."""
    lite = runtime()
    subgraph = model.graph.main
    try:
        interpreter = lite.Interpreter(
            model_content=model.to_bytes(),
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=lite.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        interpreter.allocate_tensors()
        interpreter.invoke()
        shapes = {item["index"]: tuple(map(int, item["shape"])) for item in interpreter.get_tensor_details()}
    except (RuntimeError, ValueError) as error:
        names = [tensor.label for tensor in subgraph.tensors if -1 in tensor.shape_signature[1:]]
        raise UnsupportedError(
            f"tensor {names[0]} has unknown dimensions, and stock TensorFlow Lite cannot find them: {error}",
            "export the model with a fixed input shape",
        ) from error
    return {tensor.index: shapes[tensor.index] for tensor in subgraph.tensors if not tensor.is_constant}


def _fold(subgraph: Subgraph) -> dict[int, tuple[NDArray[Any], ...]]:
    """Values of the outputs of every constant operator, by operator index."""
    values: dict[int, NDArray[Any]] = {}
    folded: dict[int, tuple[NDArray[Any], ...]] = {}
    for operator in subgraph.operators:
        outputs = _constant_outputs(subgraph, operator, values)
        if outputs is not None:
            folded[operator.index] = outputs
            values.update(zip(operator.outputs, outputs, strict=True))
    return folded


def _constant_outputs(
    subgraph: Subgraph, operator: Operator, values: dict[int, NDArray[Any]]
) -> tuple[NDArray[Any], ...] | None:
    """The outputs of an operator, or None where they depend on the model's inputs."""
    inputs = tuple(_with_value(subgraph, index, values) for index in operator.inputs)
    outputs = tuple(subgraph.tensors[index] for index in operator.outputs)
    if sum(tensor.bytes for tensor in outputs) > FOLD_LIMIT_BYTES or set(operator.outputs) & set(
        subgraph.outputs
    ):
        return None
    if operator.name == "SHAPE" and inputs and inputs[0] is not None and len(outputs) == 1:
        return (np.array(inputs[0].shape, dtype=outputs[0].dtype),)
    if not inputs or any(tensor is not None and tensor.data is None for tensor in inputs):
        return None
    try:
        kernel = prepare(Node(operator, inputs, outputs))
    except UnsupportedError:
        return None
    return kernel.evaluate([None if tensor is None else tensor.data for tensor in inputs])


def _with_value(subgraph: Subgraph, index: int, values: dict[int, NDArray[Any]]) -> Tensor | None:
    if index < 0:
        return None
    tensor = subgraph.tensors[index]
    if index not in values:
        return tensor
    value = values[index]
    return replace(tensor, shape=value.shape, shape_signature=value.shape, data=value)


def _replace(
    tree: Any, subtree: Any, subgraph: Subgraph, folded: dict[int, tuple[NDArray[Any], ...]]
) -> None:
    """Turn the outputs of folded operators into constants and drop the operators."""
    if not folded:
        return
    for index, outputs in folded.items():
        for tensor, value in zip(subgraph.operators[index].outputs, outputs, strict=True):
            subtree.tensors[tensor].shape = np.array(value.shape, dtype=np.int32)
            subtree.tensors[tensor].buffer = add_buffer(tree, value)
    subtree.operators = [item for index, item in enumerate(subtree.operators) if index not in folded]
    if not subtree.operators:
        raise TflnestError("every operator of the model is constant: its output does not depend on its input")
    prune(tree)
