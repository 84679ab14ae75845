"""Rounding methods: which codes the levels of a filter get.

A method takes the int8 weights of one filter and gives the signed codes of every level, nested in one
another as its scheme demands. Every method has a module of its own here, adds itself with `@method`, and is
imported below; the first one of a scheme is the scheme's default.
"""

from __future__ import annotations

from converters.rounding import truncate, nearest, hierarchical, squant  # isort: skip
from converters.rounding.registry import Problem, RoundingMethod, check, default, method, names, round_codes

__all__ = [
    "Problem",
    "RoundingMethod",
    "check",
    "default",
    "hierarchical",
    "method",
    "names",
    "nearest",
    "round_codes",
    "squant",
    "truncate",
]
