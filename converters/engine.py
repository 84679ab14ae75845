"""What computes operators while a model is converted: the native engine where there is one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from tflnest.errors import UsageError
from tflnest.interpreter import ENGINES
from tflnest.kernels import Kernel, Node
from tflnest.kernels import prepare as prepare_reference
from tflnest.native.library import is_available
from tflnest.native.standalone import prepare_native
from tflnest.runner import usable_cores

#: "auto", or one of `ENGINES`.
_engine: ContextVar[str] = ContextVar("converters.engine", default="auto")


@contextmanager
def engine(name: str) -> Iterator[None]:
    """Choose what computes operators in a `with` block. Results do not depend on it, only the time they take.

    Args:
        name: "reference", "native", or "auto": native where there is a C compiler.

    Raises:
        UsageError: There is no such engine.
    """
    if name not in ("auto", *ENGINES):
        raise UsageError(f"there is no engine {name!r}", f"engines: auto, {', '.join(ENGINES)}")
    token = _engine.set(name)
    try:
        yield
    finally:
        _engine.reset(token)


def prepare(node: Node) -> Kernel:
    """The kernel of an operator; bit for bit the reference kernel's results.

    Raises:
        UnsupportedError: There is none, or the native engine was asked for and there is no C compiler.
        FormatError: The operator contradicts itself.
    """
    name = _engine.get()
    if name == "native" or (name == "auto" and is_available()):
        return prepare_native(node, usable_cores())
    return prepare_reference(node)
