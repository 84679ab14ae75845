"""Which operators the C runtime has, and how each is bound to calls of its kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tflnest.device.calls import Call
from tflnest.errors import TflnestError, UnsupportedError
from tflnest.fixedpoint import Rounding
from tflnest.graph import Subgraph
from tflnest.kernels.checks import unsupported
from tflnest.kernels.registry import Node
from tflnest.nested import NestedOperator, ReadTensor, is_nested
from tflnest.nesting import MASTER_BITS

#: Binds a stock operator; checks what the reference kernel checks.
Bind = Callable[[Node], tuple[Call, ...]]

#: Binds a nested operator at some of its own levels.
BindNested = Callable[[NestedOperator, Subgraph, ReadTensor, Sequence[int]], Call]

_BIND: dict[str, Bind] = {}
_BIND_NESTED: dict[str, BindNested] = {}


def register(name: str) -> Callable[[Bind], Bind]:
    """Decorator: make a function the binding of a stock operator.

    Args:
        name: Builtin operator ("CONV_2D") or custom code.
    """

    def decorate(function: Bind) -> Bind:
        if name in _BIND:
            raise ValueError(f"operator {name} is bound twice")
        _BIND[name] = function
        return function

    return decorate


def register_nested(stock: str) -> Callable[[BindNested], BindNested]:
    """Decorator: make a function the binding of the nested form of a stock operator."""

    def decorate(function: BindNested) -> BindNested:
        if stock in _BIND_NESTED:
            raise ValueError(f"nested operator {stock} is bound twice")
        _BIND_NESTED[stock] = function
        return function

    return decorate


def device_operators() -> tuple[str, ...]:
    """Names of the stock operators that the C runtime has, sorted."""
    return tuple(sorted(_BIND))


def bind(node: Node) -> tuple[Call, ...]:
    """The calls that compute a stock operator, in order.

    Args:
        node: The operator; constants are known.

    Raises:
        UnsupportedError: The C runtime does not have it, or not with these types or options.
        FormatError: The operator contradicts itself.
    """
    function = _BIND.get(node.operator.name)
    if function is None:
        raise UnsupportedError(
            f"operator {node.operator.label} is not in the device runtime",
            f"the device runtime has: {', '.join(device_operators())}",
        )
    if node.rounding is not Rounding.DOUBLE:
        raise unsupported(node, f"the device runtime rounds double, not {node.rounding}")
    return function(node)


def bind_nested(
    nested: NestedOperator,
    subgraph: Subgraph,
    read: ReadTensor,
    levels: Sequence[int] | None = None,
    narrows: bool = False,
) -> Call:
    """The call that computes a nested operator, with a filter for each level.

    Args:
        nested: The operator, checked.
        subgraph: It stands in this one.
        read: Gives the values of a constant tensor; raises where its page is not resident.
        levels: Which of its own levels; None for all.
        narrows: Whether the caller narrows the activation where a level reads it at fewer than 8 bits.

    Raises:
        FormatError: The operator contradicts itself.
        UnsupportedError: A level reads its activation at fewer than 8 bits, and nobody narrows it.
        PageNotResidentError: A page that one of the levels needs is not resident.
    """
    chosen = nested.nesting.levels if levels is None else tuple(levels)
    for level in chosen:
        bits = nested.activation_bits[nested.nesting.index(level)]
        if bits != MASTER_BITS and not narrows:
            raise UnsupportedError(
                f"operator {nested.operator.label} reads its activation at {bits} bits at level {level}, "
                "and at 8 bits alone here"
            )
    return _BIND_NESTED[nested.stock](nested, subgraph, read, chosen)


def supported_on_device(node: Node) -> str | None:
    """Why the C runtime does not compute an operator; None where it does.

    Raises:
        FormatError: The operator contradicts itself.
    """
    try:
        bind(node)
    except UnsupportedError as error:
        return error.message
    return None


def missing_operators(subgraph: Subgraph) -> dict[str, str]:
    """Operators that the C runtime does not compute, by label, with the reason.

    Those whose inputs are all constant are not among them: they are computed ahead of time.
    """
    missing = {}
    tensors = subgraph.tensors
    for operator in subgraph.operators:
        inputs = tuple(tensors[index] if index >= 0 else None for index in operator.inputs)
        if is_nested(operator) or all(tensor is None or tensor.is_constant for tensor in inputs):
            continue
        outputs = tuple(tensors[index] for index in operator.outputs)
        try:
            reason = supported_on_device(Node(operator, inputs, outputs))
        except TflnestError as error:
            reason = error.message
        if reason is not None:
            missing[operator.label] = reason
    return missing
