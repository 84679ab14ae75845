"""Nested files in stock TensorFlow Lite: its interpreter with the plugin as an external delegate."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from tflnest.errors import FormatError, UnsupportedError, UsageError
from tflnest.materialization import materialize
from tflnest.model import Model
from tflnest.nesting import MASTER_BITS
from tflnest.plugin.library import library, library_path
from tflnest.schema import runtime

#: What a delegate may do with nested operators.
MODES = ("speed", "memory")

#: What the plugin returns for a level that is not there, and for a page that is not.
_ERROR_LEVEL, _ERROR_PAGE = -2, -3


@dataclass(frozen=True)
class _Session:
    """What is known of a delegate: its number in the plugin, and its mode."""

    number: int
    mode: str


_sessions: WeakKeyDictionary[Any, _Session] = WeakKeyDictionary()


def delegate_path() -> str:
    """Path of the plugin, built at first use: for `load_delegate(path, {"level": "6"})` of any runtime.

    Options are `level` (1 to 8, a level of the model; the highest where it is not given), `mode` ("speed", the
    default, or "memory") and `session` (a number by which the functions of `tflnest_plugin.h` know the delegate).

    Raises:
        UnsupportedError: There is no C compiler, and the installation brought no library along.
    """
    return str(library_path())


def load_delegate(level: int | None = None, mode: str = "speed") -> Any:
    """A delegate that runs nested operators, for `experimental_delegates` of a stock interpreter.

    Args:
        level: A level of the model; None for the highest.
        mode: "speed" expands the weights once, and the runtime's own kernels do the work: the outputs are those of
            the materialized level. "memory" reads planes where they lie: pages that the level does not need stay
            out of memory, nested operators are bit-exact with TensorFlow Lite Micro, and `set_delegate_level`
            switches between invokes.

    Returns:
        The `Delegate` of ai-edge-litert, tflite-runtime or TensorFlow; the interpreters of all three take it.

    Raises:
        UsageError: There is no such level or mode.
        UnsupportedError: There is no C compiler.
    """
    if mode not in MODES:
        raise UsageError(f"there is no mode {mode!r}", f"modes: {', '.join(MODES)}")
    if level is not None and not 1 <= level <= MASTER_BITS:
        raise UsageError(f"there is no level {level}", f"levels are 1 to {MASTER_BITS}")
    session = _Session(secrets.randbits(63) + 1, mode)
    options = {"mode": mode, "session": str(session.number)}
    if level is not None:
        options["level"] = str(level)
    delegate = runtime().load_delegate(delegate_path(), options)
    _sessions[delegate] = session
    return delegate


def stock_interpreter(
    model: str | Path | bytes, *, level: int | None = None, mode: str = "speed", **options: Any
) -> Any:
    """A stock TensorFlow Lite interpreter for a nested file at a level.

    Where the plugin cannot be had, for want of a C compiler, the level is materialized in memory: slower to load,
    with the same outputs.

    Args:
        model: A nested file, or its bytes.
        level: A level of the model; None for the highest.
        mode: As for `load_delegate`; "memory" needs the plugin.
        options: Passed on to the interpreter: `num_threads`, ...

    Raises:
        UsageError: There is no such level or mode.
        UnsupportedError: The mode is "memory", and there is no C compiler.
        FormatError: The runtime or the plugin does not take the file.
    """
    try:
        delegate = load_delegate(level, mode)
    except UnsupportedError:
        if mode == "memory":
            raise
        source = Model.from_bytes(model) if isinstance(model, bytes) else Model.load(model)
        return runtime().Interpreter(model_content=materialize(source, level).to_bytes(), **options)
    delegates = [*options.pop("experimental_delegates", ()), delegate]
    content = {"model_content": model} if isinstance(model, bytes) else {"model_path": str(model)}
    try:
        return runtime().Interpreter(**content, experimental_delegates=delegates, **options)
    except (RuntimeError, ValueError) as error:
        raise FormatError(f"stock TensorFlow Lite does not take the model: {error}") from error


def get_delegate_levels(delegate: Any) -> dict[str, int]:
    """The bit-width that each nested operator runs at now, by scope.

    Args:
        delegate: From `load_delegate`; the operators are those of the interpreters that use it.

    Raises:
        UsageError: It is another delegate.
    """
    number = _session(delegate).number
    return {
        library().operator_name(number, index): library().operator_level(number, index)
        for index in range(library().operators(number))
    }


def set_delegate_level(delegate: Any, level: int | Mapping[str, int]) -> None:
    """Choose the level of the next invokes of all interpreters that use a delegate.

    Args:
        delegate: From `load_delegate` with the mode "memory".
        level: A level of the model for all operators; or bit-widths by regular expression, searched in the scopes
            of the nested operators (`get_delegate_levels` lists them), which leaves all others as they are.

    Raises:
        UsageError: It is another delegate or in the mode "speed", or there is no such level or operator.
        FormatError: The file does not have what the level needs; nothing has changed for a level of the model.
    """
    session = _session(delegate)
    if session.mode != "memory":
        raise UsageError(
            "the level of a delegate in the mode speed is fixed", "load a delegate with mode='memory'"
        )
    if not isinstance(level, Mapping):
        _raise_for(library().set_level(session.number, level), f"level {level}")
        return
    scopes = [
        library().operator_name(session.number, index) for index in range(library().operators(session.number))
    ]
    chosen: dict[int, int] = {}
    for scope, bits in level.items():
        matches = _searcher(scope)
        found = [index for index, name in enumerate(scopes) if matches(name)]
        if not found:
            raise UsageError(
                f"no nested operator matches the scope {scope!r}", "get_delegate_levels() lists the scopes"
            )
        chosen.update(dict.fromkeys(found, bits))
    for index, bits in chosen.items():
        status = library().set_operator_level(session.number, index, bits)
        _raise_for(status, f"level {bits} of {scopes[index]!r}")


def _session(delegate: Any) -> _Session:
    try:
        return _sessions[delegate]
    except (KeyError, TypeError):  # the second: there are no weak references to it
        raise UsageError("the delegate is not one of tflnest.load_delegate") from None


def _searcher(scope: str) -> Callable[[str], Any]:
    try:
        return re.compile(scope).search
    except re.error as error:
        raise UsageError(f"the scope {scope!r} is no regular expression: {error}") from None


def _raise_for(status: int, what: str) -> None:
    if status == _ERROR_PAGE:
        raise FormatError(f"{what} needs a page that the file does not have, or whose weights are not int8")
    if status == _ERROR_LEVEL:
        raise UsageError(f"there is no {what}")
    if status:
        raise UsageError(f"{what} cannot be set: status {status}")
