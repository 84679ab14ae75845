"""What kind of `.tflite` file a model is."""

from __future__ import annotations

from tflnest.errors import UnsupportedError, UsageError
from tflnest.graph import Operator, Subgraph
from tflnest.model import Model

#: Operators at the border between real numbers and integers, in fully quantized models with float inputs.
_BORDER = frozenset({"QUANTIZE", "DEQUANTIZE"})

_AGAIN = "convert the original model again, to float or to full-integer int8"


def is_int8(model: Model, name: str = "model") -> bool:
    """Whether a model is full-integer int8; False says that it is float throughout.

    Raises:
        UnsupportedError: It is neither: float16 or dynamic-range weights, uint8 or int16 activations, or no
            operator that computes with tensors of either kind.
        UsageError: It is nested already.
    """
    if model.directory is not None:
        raise UsageError(
            f"{name}: is a nested file already",
            "start from the int8 .tflite file that it was made of, or materialize one of its levels",
        )
    main = model.graph.main
    weights = {tensor.type for tensor in main.tensors if tensor.is_constant}
    activations = _activation_types(main)
    if "FLOAT16" in weights:
        raise UnsupportedError(f"{name}: its weights are float16", _AGAIN)
    for operator in main.operators:
        _check_hybrid(main, operator, name)
    for kind, meaning in (("UINT8", "the older uint8 quantization"), ("INT16", "16-bit activations")):
        if kind in activations:
            raise UnsupportedError(f"{name}: uses {meaning}, and int8 is what can be nested", _AGAIN)
    if "INT8" in activations:
        return True
    if "FLOAT32" in activations:
        return False
    kinds = ", ".join(sorted(activations)) or "none"
    raise UnsupportedError(f"{name}: neither float nor int8; the types of its activations: {kinds}", _AGAIN)


def _activation_types(subgraph: Subgraph) -> set[str]:
    """Types of the activations that operators write, apart from conversions at the model's border."""
    written = [index for item in subgraph.operators if item.name not in _BORDER for index in item.outputs]
    return {subgraph.tensors[index].type for index in written}


def _check_hybrid(subgraph: Subgraph, operator: Operator, name: str) -> None:
    """Refuse integer weights on float activations."""
    tensors = [subgraph.tensors[index] for index in operator.inputs if index >= 0]
    floats = any(tensor.type == "FLOAT32" and not tensor.is_constant for tensor in tensors)
    integers = any(
        tensor.type in ("INT8", "UINT8", "INT4") and tensor.is_constant and tensor.quantization is not None
        for tensor in tensors
    )
    if floats and integers:
        raise UnsupportedError(
            f"{name}: dynamic-range quantization: operator {operator.label} has integer weights and computes in float",
            _AGAIN,
        )
