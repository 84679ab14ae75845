"""Which rounding methods there are, and what they work on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tflnest.errors import UsageError
from tflnest.nesting import Nesting, Scheme


@dataclass(frozen=True)
class LevelInputs:
    """Inputs of a filter: the same sampled positions in the source and at every own level.

    Attributes:
        source: float32 (groups, rows, columns), see `converters.patches`.
        levels: One such array per own level; the very array of the source where a level's inputs are the source's.
    """

    source: NDArray[np.float32]
    levels: Sequence[NDArray[np.float32]]


@dataclass(frozen=True)
class Problem:
    """What a rounding method works on.

    Attributes:
        weights: int8 filter of the source, shaped as in the file.
        nesting: Chain and scheme to round for.
        channel_axis: Axis of `weights` that counts output channels.
        seed: For methods that draw random numbers.
        inputs: What the filter sees; only for methods that need data.
        target: float64 weights to come close to, in steps of the int8 ones and shaped like them; None for the
            int8 ones.
    """

    weights: NDArray[np.int8]
    nesting: Nesting
    channel_axis: int = 0
    seed: int = 0
    inputs: LevelInputs | None = None
    target: NDArray[np.float64] | None = None


#: Gives one integer array per level, shaped like the weights, in [-2**(b-1), 2**(b-1) - 1].
RoundingMethod = Callable[[Problem], list[NDArray[np.int8]]]


@dataclass(frozen=True)
class _Entry:
    function: RoundingMethod
    schemes: tuple[Scheme, ...]
    needs_data: bool


_METHODS: dict[str, _Entry] = {}


def method(
    name: str, *schemes: Scheme, needs_data: bool = False
) -> Callable[[RoundingMethod], RoundingMethod]:
    """Decorator: add a rounding method that works for some schemes."""

    def decorate(function: RoundingMethod) -> RoundingMethod:
        _METHODS[name] = _Entry(function, schemes, needs_data)
        return function

    return decorate


def names(scheme: Scheme | None = None) -> tuple[str, ...]:
    """Names of all rounding methods, or of those that fit a scheme; its default comes first."""
    return tuple(name for name, entry in _METHODS.items() if scheme is None or scheme in entry.schemes)


def default(scheme: Scheme) -> str:
    """The method that a scheme uses where nobody asks for another: the first one that was added for it."""
    return names(scheme)[0]


def needs_data(name: str) -> bool:
    """Whether a method rounds by what a filter sees, and not by its weights alone."""
    return name in _METHODS and _METHODS[name].needs_data


def check(name: str, scheme: Scheme) -> None:
    """Refuse a method that does not exist or does not fit a scheme.

    Raises:
        UsageError: It does not.
    """
    if name not in _METHODS:
        raise UsageError(f"there is no rounding method {name!r}", f"methods are {', '.join(_METHODS)}")
    if scheme not in _METHODS[name].schemes:
        raise UsageError(
            f"rounding {name!r} does not fit the scheme {scheme}", f"use {', '.join(names(scheme))}"
        )


def round_codes(name: str, problem: Problem) -> list[NDArray[np.int8]]:
    """Signed codes of every level by a named method.

    Raises:
        UsageError: The method does not exist or does not fit the scheme.
    """
    check(name, problem.nesting.scheme)
    return _METHODS[name].function(problem)
