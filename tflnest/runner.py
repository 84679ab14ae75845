"""Run any model over many samples with any engine: what evaluation and comparison have in common."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tflnest.errors import UnsupportedError, UsageError
from tflnest.graph import Tensor
from tflnest.interpreter import ENGINES, FULL_BITS, Interpreter
from tflnest.materialization import materialize
from tflnest.model import Model
from tflnest.native.library import is_available
from tflnest.policy import Policy, Static, parse_policy
from tflnest.progress import Progress, silent
from tflnest.schema import runtime
from tflnest.silence import silenced
from tflnest.widths import Widths

#: A stock TensorFlow Lite runtime; not bit-exact with the reference engine.
STOCK_ENGINE = "litert"

#: Samples that go through a model between two reports of progress.
CHUNK = 32

#: The same where samples of the same widths are run together.
POLICY_CHUNK = 128

#: Outputs of a model: one array (samples, values of one sample) per output tensor.
Outputs = tuple[NDArray[Any], ...]


class Runner:
    """One model at one level in one engine.

    Args:
        model: Plain or nested, int8 or float; its one input takes one sample at a time.
        level: Level of a nested model; None for the full-bit one.
        engine: "reference", "native", "litert", or "auto": for integer models the native engine, or the reference
            engine where there is no C compiler; stock TensorFlow Lite for float ones. The native engine uses
            all cores.
        policy: How the level of each input is decided; see `Interpreter`.

    Attributes:
        input: The input tensor.
        outputs: The output tensors.
        engine: The engine that was chosen.

    Raises:
        UsageError: No such engine or level, or a policy that the model has nothing for.
        UnsupportedError: The model has several inputs, or the engine does not run it.
    """

    def __init__(
        self,
        model: Model,
        level: int | None = None,
        engine: str = "auto",
        policy: str | Policy = "static",
    ) -> None:
        if engine not in ("auto", STOCK_ENGINE, *ENGINES):
            raise UsageError(
                f"there is no engine {engine!r}", f"engines: auto, {STOCK_ENGINE}, {', '.join(ENGINES)}"
            )
        levels = model_levels(model)
        if level is not None and level not in levels:
            raise UsageError(
                f"the model has no level {level}",
                f"levels: {', '.join(map(str, levels))}" if model.directory else "it is not nested",
            )
        self.input = single_input(model)
        self.outputs: tuple[Tensor, ...] = tuple(model.graph.main.output_tensors())
        if engine == "auto":
            integer_engine = "native" if is_available() else "reference"
            engine = integer_engine if is_integer(model) else STOCK_ENGINE
        elif engine != STOCK_ENGINE and not is_integer(model):
            raise UnsupportedError(
                f"the {engine} engine computes with integers, and the model is float",
                f"run it with the engine {STOCK_ENGINE}, or auto",
            )
        self.engine = engine
        self._stock: Any = None
        self._own: Interpreter | None = None
        self._widths: list[Widths] = []
        policy = parse_policy(policy)
        if engine == STOCK_ENGINE and not isinstance(policy, Static):
            raise UsageError(
                f"the engine {STOCK_ENGINE} runs the level that is set, not the policy {policy}",
                "take the engine native or reference",
            )
        if engine == STOCK_ENGINE:
            stock = model if model.directory is None else materialize(model, level)
            self._stock = _stock_interpreter(stock.to_bytes())
        else:
            self._own = Interpreter(
                model=model,
                engine=engine,
                level=level if model.directory is not None else None,
                threads=usable_cores() if engine == "native" else 1,
                policy=policy,
            )
        self._chunk = CHUNK if isinstance(policy, Static) else POLICY_CHUNK

    @property
    def fallbacks(self) -> dict[str, str]:
        """Operators that the native engine leaves to the reference kernels, by label, with the reason."""
        return {} if self._own is None else self._own.fallbacks

    def run(self, x: NDArray[Any], stage: str = "running", progress: Progress = silent) -> Outputs:
        """Run all samples.

        Args:
            x: Samples in the type of the input, (samples, *shape of one sample).
            stage: What the progress is called.
            progress: Told how many samples are done.
        """
        parts: list[Outputs] = []
        self._widths = []
        progress(stage, 0, len(x))
        for start in range(0, len(x), self._chunk):
            chunk = x[start : start + self._chunk]
            if self._own is None:
                outputs = self._run_stock(chunk)
            else:
                outputs = self._run_own(self._own, chunk)
                self._widths.append(self._own.widths.of_samples(np.arange(start, start + len(chunk))))
            parts.append(tuple(output.reshape(len(chunk), -1) for output in outputs))
            progress(stage, start + len(chunk), len(x))
        return tuple(np.concatenate(group) for group in zip(*parts, strict=True))

    @property
    def widths(self) -> Widths:
        """The widths of every operator with a filter, for each sample of the last run.

        Raises:
            UsageError: The engine does not tell, or nothing has run.
        """
        if not self._widths:
            raise UsageError(f"the engine {self.engine} has told no widths yet")
        return Widths.joined(self._widths)

    @staticmethod
    def _run_own(interpreter: Interpreter, x: NDArray[Any]) -> Outputs:
        outputs = interpreter.run(x)
        return outputs if isinstance(outputs, tuple) else (outputs,)

    def _run_stock(self, x: NDArray[Any]) -> Outputs:
        source = self._stock.get_input_details()[0]["index"]
        targets = [item["index"] for item in self._stock.get_output_details()]
        rows = []
        for sample in x:
            self._stock.set_tensor(source, sample.reshape(self.input.shape))
            self._stock.invoke()
            rows.append([self._stock.get_tensor(target) for target in targets])
        return tuple(np.stack(group) for group in zip(*rows, strict=True))


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def single_input(model: Model) -> Tensor:
    """The only input of a model.

    Raises:
        UnsupportedError: There are several, or none.
    """
    tensors = model.graph.main.input_tensors()
    if len(tensors) != 1:
        raise UnsupportedError(f"the model has {len(tensors)} inputs; a data file feeds exactly one")
    return tensors[0]


def model_levels(model: Model) -> tuple[int, ...]:
    """Levels of a model; a plain one has one."""
    return (FULL_BITS,) if model.directory is None else model.directory.levels


def is_integer(model: Model) -> bool:
    """Whether a model computes with integers; its border may convert from and to real numbers."""
    main = model.graph.main
    written = {main.tensors[index].type for item in main.operators for index in item.outputs}
    return model.directory is not None or bool(written & {"INT8", "UINT8", "INT16"})


def _stock_interpreter(content: bytes) -> Any:
    module = runtime()
    try:
        with silenced():
            interpreter = module.Interpreter(model_content=content, num_threads=1)
            interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise UnsupportedError(f"stock TensorFlow Lite does not take the model: {error}") from error
    return interpreter
