"""Rounding methods: which codes the levels of a filter get.

A method takes the int8 weights of one filter and gives the signed codes of every level, nested in one
another as its scheme demands. Every method has a module of its own here, is added with `@method`, and is
imported below; the first one of a scheme is the scheme's default.
"""

from __future__ import annotations

# isort: off
from converters.rounding.registry import Problem, RoundingMethod, check, default, method, names, round_codes
from converters.rounding.truncate import truncate
from converters.rounding.nearest import nearest
# isort: on

__all__ = [
    "Problem",
    "RoundingMethod",
    "check",
    "default",
    "method",
    "names",
    "nearest",
    "round_codes",
    "truncate",
]
