"""What the device's C kernels are called with: one home for the native engine and generated firmware."""

from __future__ import annotations

from tflnest.device import convolutions, elementwise, images, lookups, movement, narrowing, reductions
from tflnest.device.calls import Argument, Call, Function, LevelFilter, functions
from tflnest.device.core import Core
from tflnest.device.registry import (
    bind,
    bind_nested,
    device_operators,
    missing_operators,
    supported_on_device,
)
from tflnest.device.structures import Computed, Constant, Memory, initializer, structure

__all__ = [
    "Argument",
    "Call",
    "Computed",
    "Constant",
    "Core",
    "Function",
    "LevelFilter",
    "Memory",
    "bind",
    "bind_nested",
    "convolutions",
    "device_operators",
    "elementwise",
    "functions",
    "images",
    "initializer",
    "lookups",
    "missing_operators",
    "movement",
    "narrowing",
    "reductions",
    "structure",
    "supported_on_device",
]
