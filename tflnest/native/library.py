"""The compiled runtime: its kernels by name, with checks and scratch sizes."""

from __future__ import annotations

import ctypes
import threading
from functools import cache
from pathlib import Path
from typing import Any

from tflnest.device import Function, functions
from tflnest.device.parameters import Filter
from tflnest.device.sources import INCLUDE, SOURCE, needed_files
from tflnest.device.structures import structure
from tflnest.errors import TflnestError, UnsupportedError
from tflnest.native.compiler import Compiler, Unit, installed_library, shared_library
from tflnest.native.dispatch import dispatch

#: What a `_check` function returns for parameters that the kernel computes with.
STATUS_OK = 0

_lock = threading.Lock()


class Step(ctypes.Structure):
    """One kernel call, as the compiled runtime executes it."""

    _fields_ = (("call", ctypes.c_void_p), ("arguments", ctypes.c_void_p))


def unit() -> Unit:
    """Everything that is compiled: the kernels that Python knows, and what calls them."""
    kernels = functions()
    files = needed_files((kernel.header for kernel in kernels), host=True)
    return Unit(
        sources=tuple(path for path in files if path.suffix == ".c"),
        headers=tuple(path for path in files if path.suffix == ".h"),
        include=(INCLUDE, SOURCE),
        text=dispatch(kernels),
    )


class Library:
    """A compiled runtime.

    Args:
        path: The shared library.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._library = ctypes.CDLL(str(path))
        self.run = self._library.tflnest_run
        self.run.argtypes = [ctypes.POINTER(Step), ctypes.c_size_t]
        self.run.restype = None

    def call(self, function: Function) -> int:
        """Address of the function that calls a kernel with an array of pointers."""
        address = ctypes.cast(getattr(self._library, f"call_{function.name}"), ctypes.c_void_p).value
        assert address is not None
        return address

    def check(self, function: Function, params: ctypes.Structure, filter_: ctypes.Structure | None) -> int:
        """What the kernel's `_check` function says; 0 is good."""
        arguments: list[Any] = [ctypes.byref(params)]
        types: list[Any] = [ctypes.POINTER(structure(function.params))]
        if function.has_filter:
            arguments.append(None if filter_ is None else ctypes.byref(filter_))
            types.append(ctypes.POINTER(structure(Filter)))
        return int(self._function(function.check, types, ctypes.c_int)(*arguments))

    def buffer_size(self, function: Function, params: ctypes.Structure) -> int:
        """Bytes of scratch that the kernel needs on this machine."""
        if not function.has_scratch:
            return 0
        types = [ctypes.POINTER(structure(function.params))]
        return int(self._function(function.buffer_size, types, ctypes.c_uint32)(ctypes.byref(params)))

    def _function(self, name: str, types: list[Any], result: Any) -> Any:
        found = getattr(self._library, name)
        found.argtypes, found.restype = types, result
        return found


def installed() -> Path | None:
    """The runtime that was compiled when tflnest was installed, if it is the one that belongs to this Python code."""
    return installed_library(Path(__file__).parent, "_runtime", "tflnest_key", unit())


@cache
def _load() -> Library:
    try:
        compiler = Compiler.find()
    except UnsupportedError:
        found = installed()
        if found is None:
            raise
        return Library(found)
    return Library(shared_library(unit(), compiler))


def library() -> Library:
    """The runtime for this machine, built at first use; where there is no compiler, the one that was installed.

    Raises:
        UnsupportedError: There is neither.
        TflnestError: The runtime cannot be built.
    """
    with _lock:
        return _load()


@cache
def is_available() -> bool:
    """Whether there is a runtime for this machine, or one can be built."""
    try:
        library()
    except TflnestError:
        return False
    return True
