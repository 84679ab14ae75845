"""The variants of the C kernels."""

from __future__ import annotations

from enum import StrEnum


class Core(StrEnum):
    """The variants of the C kernels; all give the same results."""

    PORTABLE = "portable"
    DSP = "dsp"
    MVE = "mve"
