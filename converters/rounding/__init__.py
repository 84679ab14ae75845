"""Rounding methods: which codes the levels of a filter get.

A method takes the int8 weights of one filter and gives the signed codes of every level, nested in one
another as its scheme demands. Every method has a module of its own here, adds itself with `@method`, and is
imported below; the first one of a scheme is the scheme's default.
"""

from __future__ import annotations

from converters.rounding import truncate, nearest, hierarchical, squant, joint  # isort: skip
from converters.rounding.registry import (
    LevelInputs,
    Problem,
    RoundingMethod,
    check,
    default,
    method,
    names,
    needs_data,
    round_codes,
)

__all__ = [
    "LevelInputs",
    "Problem",
    "RoundingMethod",
    "check",
    "default",
    "hierarchical",
    "joint",
    "method",
    "names",
    "nearest",
    "needs_data",
    "round_codes",
    "squant",
    "truncate",
]
