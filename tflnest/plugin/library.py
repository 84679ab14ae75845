"""The compiled plugin: one shared library that every TensorFlow Lite runtime of this machine can load."""

from __future__ import annotations

import ctypes
import threading
from functools import cache
from pathlib import Path

from tflnest.device.sources import INCLUDE, NESTED, PLUGIN, SOURCE, plugin_files
from tflnest.errors import TflnestError, UnsupportedError
from tflnest.native.compiler import FLAGS, Compiler, Unit, installed_library, shared_library

_HINT = "install gcc or clang; tflnest.stock_interpreter does without, by writing the level out in memory"

_lock = threading.Lock()


def unit() -> Unit:
    """Everything that is compiled: the plugin, and the kernels that it calls."""
    files = plugin_files()
    return Unit(
        sources=tuple(path for path in files if path.suffix == ".c"),
        headers=tuple(path for path in files if path.suffix == ".h"),
        include=(INCLUDE, SOURCE, NESTED, PLUGIN),
    )


def installed() -> Path | None:
    """The plugin that was compiled when tflnest was installed, if it is the one that belongs to this Python code."""
    return installed_library(Path(__file__).parent, "_plugin", "tflnest_plugin_key", unit())


@cache
def _path() -> Path:
    try:
        compiler = Compiler.find()
    except UnsupportedError:
        found = installed()
        if found is None:
            raise UnsupportedError("the delegate needs a C compiler, and there is none", _HINT) from None
        return found
    try:
        return shared_library(unit(), compiler, (*FLAGS, "-fvisibility=hidden"), "libtflnest")
    except TflnestError as error:
        raise TflnestError(error.message.replace("the native engine", "the delegate"), _HINT) from error


def library_path() -> Path:
    """The plugin for this machine; built at first use.

    Raises:
        UnsupportedError: There is no C compiler, and the installation brought no library along.
        TflnestError: It cannot be built.
    """
    with _lock:
        return _path()


class PluginLibrary:
    """The plugin's own functions; `tflnest/runtime/plugin/tflnest_plugin.h` documents them."""

    def __init__(self) -> None:
        library = ctypes.CDLL(str(library_path()))
        self.set_level = library.tflnest_plugin_set_level
        self.set_level.argtypes = [ctypes.c_uint64, ctypes.c_int]
        self.set_operator_level = library.tflnest_plugin_set_operator_level
        self.set_operator_level.argtypes = [ctypes.c_uint64, ctypes.c_int, ctypes.c_int]
        self.operators = library.tflnest_plugin_operators
        self.operators.argtypes = [ctypes.c_uint64]
        self.operator_level = library.tflnest_plugin_operator_level
        self.operator_level.argtypes = [ctypes.c_uint64, ctypes.c_int]
        self._operator_name = library.tflnest_plugin_operator_name
        self._operator_name.argtypes = [ctypes.c_uint64, ctypes.c_int, ctypes.c_char_p, ctypes.c_int]

    def operator_name(self, session: int, index: int) -> str:
        """The name of an operator; empty where there is no such operator."""
        buffer = ctypes.create_string_buffer(1 << 10)
        self._operator_name(session, index, buffer, len(buffer))
        return buffer.value.decode("utf-8", errors="replace")


@cache
def library() -> PluginLibrary:
    """The plugin's functions; built at first use."""
    return PluginLibrary()
