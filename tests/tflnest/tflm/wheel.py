"""Nested files in the interpreter of the `tflite-micro` wheel, with the component's operators loaded into it.

The wheel looks up functions by name that add operators to its resolver. It aborts on some models, so it runs in a
process of its own: `python -m tests.tflnest.tflm.wheel LIBRARY`.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.shared import ROOT
from tests.tflnest.tflm.component import HERE, Toolset, lay_out, run, sources

REGISTERERS = ("tflnest_add_operators", "tflnest_add_decoders")
ARENA_BYTES = 16 << 20
STATE_BYTES = 512
_SECTION = re.compile(r"Arena allocation (?:head|tail) (\d+) bytes")

#: Calls of the component's C functions: name and arguments. "run" has the values of the input instead.
Step = tuple[Any, ...]


@dataclass(frozen=True)
class Job:
    """What the wheel is to do.

    Attributes:
        model: A `.tflite` file.
        steps: Such as ("set_level", 4), ("page_in", 1, image) or ("run", array).
        is_open: Whether `tflnest_tflm_open` is called first.
        first: Steps behind that, before tensors are allocated.
        functions: What the names of the component's functions begin with.
        tensors: Which tensors every "run" gives; None for the outputs of the model.
        arena_bytes: Size of the arena.
        decoding_bytes: Size of memory that constants are decoded into; 0 for the arena.
        records: Whether allocations are recorded and printed.
        allocates: Whether an interpreter is made, and steps are run.
    """

    model: bytes
    steps: Sequence[Step] = ()
    is_open: bool = True
    first: Sequence[Step] = ()
    functions: str = "tflnest_tflm"
    tensors: Sequence[int] | None = None
    arena_bytes: int = ARENA_BYTES
    decoding_bytes: int = 0
    records: bool = False
    allocates: bool = True


@dataclass(frozen=True)
class Answer:
    """What came of it.

    Attributes:
        opened: Status of `tflnest_tflm_open`.
        results: One entry per step: a status or number, or the tensors of a "run" by index.
        log: What TFLM and the component wrote.
        error: Why the interpreter could not be made; empty where it was.
    """

    opened: int
    results: list[Any]
    log: str
    error: str = ""
    arena: tuple[int, int] = field(default=(0, 0))


def runtime_path() -> Path:
    """The wheel's shared library."""
    spec = find_spec("tflite_micro.python.tflite_micro")
    assert spec is not None and spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "_runtime.so"


def build(folder: Path) -> Path:
    """Compile the component for the wheel, with the kernels that take the least memory."""
    tools = Toolset(flags=("-O2", "-fPIC", "-DTFLNEST_VARIANT=0"))
    tools.require()
    component = lay_out(folder / "component")
    files = [*sources(component), *sorted((HERE / "wheel").glob("*.cc"))]
    objects = tools.compile(files, (component, HERE / "wheel"), folder / "objects")
    library = folder / "operators.so"
    run(["g++", "-shared", "-o", library, *objects, runtime_path(), "-Wl,-z,defs"])
    return library


def ask(library: Path, job: Job) -> Answer:
    """Run a job."""
    result = subprocess.run(
        [sys.executable, "-m", __spec__.name, str(library)],
        input=pickle.dumps(job),
        capture_output=True,
        cwd=ROOT,
        check=False,
        timeout=300,
    )
    log = result.stderr.decode(errors="replace")
    assert result.returncode == 0, f"the wheel died of {result.returncode}: {log[-2000:]}"
    opened, results, error = pickle.loads(result.stdout)
    sizes = [int(size) for size in _SECTION.findall(log)] or [0, 0]
    return Answer(opened, results, log, error, (sizes[0], sizes[1]))


# ------------------------------------------------------------------------------------------------ worker


#: Page images that came in; they stay in use.
_images: list[Any] = []


def _steps(library: Any, state: int, interpreter: Any, job: Job, steps: Sequence[Step]) -> list[Any]:
    results: list[Any] = []
    for name, *arguments in steps:
        if name == "run":
            interpreter.set_input(arguments[0], 0)
            interpreter.invoke()
            results.append(
                interpreter.get_output(0)
                if job.tensors is None
                else {index: interpreter.GetTensor(index, 0)["tensor_data"].copy() for index in job.tensors}
            )
            continue
        values: list[Any] = [ctypes.c_uint32(value) for value in arguments[:2] if isinstance(value, int)]
        if name == "page_in":
            image = arguments[1]
            size = 0 if image is None else len(image)
            memory = (ctypes.c_uint64 * (size // 8 + 1))()
            ctypes.memmove(memory, image or b"", size)
            _images.append(memory)
            values += [None if image is None else ctypes.byref(memory), ctypes.c_size_t(size)]
        results.append(getattr(library, f"{job.functions}_{name}")(ctypes.c_void_p(state), *values))
    return results


def _work(path: str) -> tuple[int, list[Any], str]:
    from tflite_micro.python.tflite_micro import runtime

    job: Job = pickle.load(sys.stdin.buffer)
    library = ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
    state = ctypes.create_string_buffer(STATE_BYTES)
    address = ctypes.addressof(state)
    opened = 0
    if job.is_open:
        file = ctypes.c_char_p(job.model)
        opened = getattr(library, f"{job.functions}_open")(
            ctypes.c_void_p(address), file, ctypes.c_size_t(len(job.model))
        )
    results = _steps(library, address, None, job, job.first)
    if not job.allocates:
        return opened, results, ""
    configs = runtime.InterpreterConfig
    config = configs.kAllocationRecording if job.records else configs.kPreserveAllTensors
    try:
        interpreter = runtime.Interpreter.from_bytes(
            job.model,
            custom_op_registerers=list(REGISTERERS),
            arena_size=job.arena_bytes,
            intrepreter_config=config,
            alt_decompression_memory_size=job.decoding_bytes,
        )
    except RuntimeError as error:
        return opened, results, str(error)
    if job.records:
        interpreter.print_allocations()
    results += _steps(library, address, interpreter, job, job.steps)
    del interpreter
    if job.is_open and job.functions == "tflnest_tflm":
        results.append(library.tflnest_tflm_operators(ctypes.c_void_p(address)))
    return opened, results, ""


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    pickle.dump(_work(sys.argv[1]), answers)
    answers.close()
