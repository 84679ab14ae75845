"""One call of a C kernel: which function, with which constants, on which tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from tflnest.device.core import Core
from tflnest.device.parameters import Filter
from tflnest.device.structures import INT8, Scalar


@dataclass(frozen=True)
class Function:
    """A kernel of the C runtime.

    Its C prototype is `void name(const params *, const tflnest_filter * where it has one, inputs..., outputs...,
    void *scratch where it takes one)`. Beside it stand `<base>_check(params, filter)` and, where there is
    scratch, `<base>_get_buffer_size(params)`; one that is called "<base>_unbuffered" shares the check.

    Attributes:
        name: "tflnest_conv_s8".
        header: Public header that declares it, as it is included.
        params: The dataclass that mirrors its parameters.
        inputs: Element type of each input.
        outputs: Element type of each output.
        has_filter: Whether it takes a `tflnest_filter`.
        has_scratch: Whether it takes scratch memory.
        scratch: Bytes of scratch from parameters and variant of the kernel.
        unbuffered: The kernel that computes the same without scratch, for tiles of 0 channels; None: this one.
    """

    name: str
    header: str
    params: type[Any]
    inputs: tuple[Scalar, ...] = (INT8,)
    outputs: tuple[Scalar, ...] = (INT8,)
    has_filter: bool = False
    has_scratch: bool = False
    scratch: Callable[[Any, Core], int] | None = None
    unbuffered: Function | None = None

    @property
    def base(self) -> str:
        """The name without the type: "tflnest_conv"."""
        return self.name.rpartition("_")[0].removesuffix("_unbuffered")

    def kernel(self, params: Any) -> Function:
        """What runs with these parameters: the kernel without scratch where a tile has no channels."""
        return self if self.unbuffered is None or params.tile_channels else self.unbuffered

    @property
    def check(self) -> str:
        """Name of the function that checks parameters and filter."""
        return f"{self.base}_check"

    @property
    def buffer_size(self) -> str:
        """Name of the function that tells the bytes of scratch; there is none without scratch."""
        return f"{self.base}_get_buffer_size"


_FUNCTIONS: dict[str, Function] = {}


def declare(function: Function) -> Function:
    """Make a kernel known to those that build the runtime.

    Returns:
        The same function.
    """
    if function.name in _FUNCTIONS:
        raise ValueError(f"kernel {function.name} is declared twice")
    _FUNCTIONS[function.name] = function
    return function


def functions() -> tuple[Function, ...]:
    """All kernels of the C runtime, by name."""
    return tuple(_FUNCTIONS[name] for name in sorted(_FUNCTIONS))


@dataclass(frozen=True)
class Argument:
    """A tensor that a kernel reads or writes: an activation, or a constant of the file.

    Attributes:
        tensor: Its index.
        offset: Where the kernel starts in it, in bytes.
    """

    tensor: int
    offset: int = 0


@dataclass(frozen=True)
class LevelFilter:
    """The weights of one level of an operator.

    Attributes:
        level: The operator's own bit-width; 8 for a stock operator.
        filter: What belongs to it.
    """

    level: int
    filter: Filter


@dataclass(frozen=True)
class Call:
    """A kernel with everything that is fixed. An operator takes one call or several, in order.

    Attributes:
        function: The kernel, whatever the tile; see `kernel`.
        params: Instance of `function.params`. Where it has a method `for_samples(count)`, that gives the
            parameters for so many times the samples; it is called only where the leading dimension of everything
            that is read and written, constants apart, is 1.
        inputs: What it reads.
        outputs: What it writes.
        filters: One per level, lowest first; empty where it takes no filter.
    """

    function: Function
    params: Any
    inputs: tuple[Argument, ...]
    outputs: tuple[Argument, ...]
    filters: tuple[LevelFilter, ...] = ()

    @property
    def kernel(self) -> Function:
        """What runs: `function`, or what stands for it where a tile has no channels."""
        return self.function.kernel(self.params)

    @property
    def has_tile(self) -> bool:
        """Whether the number of channels that are decoded at a time can be chosen."""
        return hasattr(self.params, "tile_channels")

    def with_tile(self, channels: int) -> Call:
        """The same with another tile; unchanged where there is none to choose.

        Args:
            channels: Output channels that are decoded at a time; 0 for none, which takes no scratch and is slow.
        """
        return replace(self, params=replace(self.params, tile_channels=channels)) if self.has_tile else self

    def scratch(self, core: Core) -> int:
        """Bytes of scratch that a variant of the kernel needs."""
        return 0 if self.function.scratch is None else self.function.scratch(self.params, core)
