"""Engines that we did not write, behind one interface: what every tensor of a model must be.

`MicroOracle` is the specification: TensorFlow Lite Micro's reference kernels, from the `tflite_micro` wheel.
`ReferenceOracle` is LiteRT with its C++ reference kernels; it agrees with TFLM except in FULLY_CONNECTED and
standalone RELU6, and serves where TFLM lacks an operator or a type. Both abort or segfault on some models, so
that each runs in a worker process.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pickle
import platform
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tflnest.graph import Graph
from tflnest.model import Model
from tflnest.schema import runtime

ROOT = Path(__file__).resolve().parent.parent
MODULE = "tests.oracle"
TAIL_BYTES = 2000

#: Tensor values by index, one mapping per invoke.
Values = dict[int, NDArray[Any]]


class OracleError(Exception):
    """The oracle gives no answer for a model."""


class OracleRefused(OracleError):
    """The engine reports that it cannot run the model."""


class OracleCrashed(OracleError):
    """The engine's process died.

    Args:
        signal_name: What killed it ("SIGABRT"), or its exit status.
        stderr: The end of what it wrote.
    """

    def __init__(self, signal_name: str, stderr: str) -> None:
        super().__init__(f"the oracle process died of {signal_name}: {stderr.strip()[-500:]}")
        self.signal_name = signal_name
        self.stderr = stderr


@dataclass(frozen=True)
class Job:
    """One model and the inputs to run it on.

    Attributes:
        model: A `.tflite` file.
        inputs: One sequence of arrays per invoke, in the order of the subgraph's inputs.
        tensors: Indices of the tensors to return; None for every operator output of the first subgraph.
    """

    model: bytes
    inputs: Sequence[Sequence[NDArray[Any]]]
    tensors: Sequence[int] | None = None


def operator_outputs(graph: Graph) -> list[int]:
    """Indices of all tensors that the operators of the first subgraph write."""
    return [index for operator in graph.main.operators for index in operator.outputs]


def arena_bytes(graph: Graph) -> int:
    """An arena that is surely large enough to keep every tensor of a graph."""
    tensors = graph.main.tensors
    return 2 * sum(tensor.bytes + 64 for tensor in tensors) + 4096 * len(graph.main.operators) + (1 << 20)


class WorkerOracle:
    """An engine in a process of its own, which is started again after a crash.

    Args:
        name: Key of `ENGINES`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._worker: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    def __enter__(self) -> WorkerOracle:
        return self

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the worker."""
        if self._worker is not None:
            assert self._worker.stdin is not None and self._worker.stdout is not None
            with contextlib.suppress(BrokenPipeError):
                self._worker.stdin.close()
            self._worker.wait(timeout=30)
            self._worker.stdout.close()
            self._worker = None
        if self._log is not None:
            self._log.close()
            self._log = None

    def run(self, job: Job) -> list[Values]:
        """Run one model on all its inputs.

        Raises:
            OracleRefused: The engine reports an error.
            OracleCrashed: The process died; the next call starts a new one.
        """
        graph = Model.from_bytes(job.model).graph
        tensors = operator_outputs(graph) if job.tensors is None else list(job.tensors)
        worker, log = self._start()
        assert worker.stdin is not None and worker.stdout is not None
        log_start = log.seek(0, os.SEEK_END)
        request = (
            job.model,
            arena_bytes(graph),
            [[np.asarray(x) for x in row] for row in job.inputs],
            tensors,
        )
        try:
            _send(worker.stdin, request)
            status, answer = _receive(worker.stdout)
        except (EOFError, BrokenPipeError):
            code = worker.wait(timeout=30)
            stderr = self._tail(log_start)
            self.close()
            name = signal.Signals(-code).name if code < 0 else f"exit status {code}"
            raise OracleCrashed(name, stderr) from None
        if status == "refused":
            raise OracleRefused(f"{answer}: {self._tail(log_start).strip()[-500:]}")
        shapes = {tensor.index: tensor.shape for tensor in graph.main.tensors}
        return [{index: value.reshape(shapes[index]) for index, value in row.items()} for row in answer]

    def _start(self) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
        if self._worker is None or self._log is None:
            self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the worker
            self._worker = subprocess.Popen(
                [sys.executable, "-m", MODULE, self.name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                cwd=ROOT,
            )
        return self._worker, self._log

    def _tail(self, start: int) -> str:
        assert self._log is not None
        end = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(start, end - TAIL_BYTES))
        return self._log.read().decode("utf-8", errors="replace")


class MicroOracle(WorkerOracle):
    """TensorFlow Lite Micro with preserved tensors."""

    def __init__(self) -> None:
        super().__init__("tflite_micro")

    @staticmethod
    def available() -> bool:
        """Whether the wheel is installed."""
        return importlib.util.find_spec("tflite_micro") is not None


def require_wheel() -> None:
    """Skip the test where the wheel is not installed; fail it where continuous integration should have it."""
    if MicroOracle.available():
        return
    if os.environ.get("CI") == "true" and (platform.system(), platform.machine()) == ("Linux", "x86_64"):
        pytest.fail("the tflite_micro wheel is not installed, and without it nothing is compared with TFLM")
    pytest.skip("the tflite_micro wheel is not installed")


class ReferenceOracle(WorkerOracle):
    """LiteRT with its C++ reference kernels (`BUILTIN_REF`)."""

    def __init__(self) -> None:
        super().__init__("litert_reference")


def best_oracle() -> WorkerOracle:
    """TFLM where the wheel is installed, LiteRT's reference kernels elsewhere."""
    return MicroOracle() if MicroOracle.available() else ReferenceOracle()


# ------------------------------------------------------------------------------------------------ worker


def _send(stream: IO[bytes], message: Any) -> None:
    content = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    stream.write(struct.pack("<Q", len(content)) + content)
    stream.flush()


def _receive(stream: IO[bytes]) -> Any:
    header = stream.read(8)
    if len(header) < 8:
        raise EOFError
    size = struct.unpack("<Q", header)[0]
    content = stream.read(size)
    if len(content) < size:
        raise EOFError
    return pickle.loads(content)


def _run_micro(
    model: bytes, arena: int, inputs: list[list[NDArray[Any]]], tensors: list[int]
) -> list[Values]:
    from tflite_micro.python.tflite_micro import runtime as micro

    interpreter = micro.Interpreter.from_bytes(
        model, arena_size=arena, intrepreter_config=micro.InterpreterConfig.kPreserveAllTensors
    )
    answer = []
    for row in inputs:
        for position, value in enumerate(row):
            interpreter.set_input(value, position)
        interpreter.invoke()
        answer.append({index: np.array(interpreter.GetTensor(index, 0)["tensor_data"]) for index in tensors})
    return answer


def _run_reference(
    model: bytes, _: int, inputs: list[list[NDArray[Any]]], tensors: list[int]
) -> list[Values]:
    module = runtime()
    interpreter = module.Interpreter(
        model_content=model,
        num_threads=1,
        experimental_op_resolver_type=module.OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    details = interpreter.get_input_details()
    answer = []
    for row in inputs:
        for detail, value in zip(details, row, strict=True):
            interpreter.set_tensor(detail["index"], value)
        interpreter.invoke()
        answer.append({index: interpreter.get_tensor(index).copy() for index in tensors})
    return answer


ENGINES = {"tflite_micro": _run_micro, "litert_reference": _run_reference}


def _serve(engine: str) -> None:
    """Answer jobs from stdin until it ends. What the engine prints goes to stderr."""
    requests = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while True:
        try:
            request = _receive(requests)
        except EOFError:
            return
        try:
            _send(answers, ("done", ENGINES[engine](*request)))
        except (RuntimeError, ValueError, TypeError) as error:
            sys.stderr.flush()
            _send(answers, ("refused", str(error)))


if __name__ == "__main__":
    _serve(sys.argv[1])
