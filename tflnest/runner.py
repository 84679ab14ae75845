"""Run any model over many samples with any engine: what evaluation and comparison have in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tflnest.errors import UnsupportedError, UsageError
from tflnest.interpreter import ENGINES, FULL_BITS, Interpreter
from tflnest.materialization import materialize
from tflnest.model import Model
from tflnest.schema import runtime

#: A stock TensorFlow Lite runtime; not bit-exact with the reference engine.
STOCK_ENGINE = "litert"

#: Samples that go through a model between two reports of progress.
CHUNK = 32


class Runner:
    """One model at one level in one engine.

    Args:
        model: Plain or nested, int8 or float.
        level: Level of a nested model; None for the full-bit one.
        engine: "reference", "litert", or "auto": the reference engine for integer models, stock TensorFlow
            Lite for float ones.

    Raises:
        UsageError: No such engine or level, or the reference engine for a float model.
        UnsupportedError: The model has several inputs.
    """

    def __init__(self, model: Model, level: int | None = None, engine: str = "auto") -> None:
        if engine not in ("auto", STOCK_ENGINE, *ENGINES):
            raise UsageError(
                f"there is no engine {engine!r}", f"engines: auto, {STOCK_ENGINE}, {', '.join(ENGINES)}"
            )
        self.input = single_input(model)
        self.output = model.graph.main.output_tensors()[0]
        if engine == "auto":
            engine = STOCK_ENGINE if self.input.type == "FLOAT32" else ENGINES[0]
        self.engine = engine
        self._stock: Any = None
        if engine == STOCK_ENGINE:
            self._stock = _stock_interpreter(_stock_model(model, level))
        else:
            self._reference = Interpreter(model=model, engine=engine, level=level)

    def chunks(self, x: NDArray[Any]) -> Iterator[NDArray[Any]]:
        """Outputs of the first output tensor, (samples, values), a chunk of samples at a time."""
        for start in range(0, len(x), CHUNK):
            part = x[start : start + CHUNK]
            outputs = self._run_stock(part) if self._stock is not None else self._run_reference(part)
            yield outputs.reshape(len(part), -1)

    def _run_reference(self, x: NDArray[Any]) -> NDArray[Any]:
        outputs = self._reference.run(x)
        return outputs[0] if isinstance(outputs, tuple) else outputs

    def _run_stock(self, x: NDArray[Any]) -> NDArray[Any]:
        source = self._stock.get_input_details()[0]["index"]
        target = self._stock.get_output_details()[0]["index"]
        rows = []
        for sample in x:
            self._stock.set_tensor(source, sample.reshape(self.input.shape))
            self._stock.invoke()
            rows.append(self._stock.get_tensor(target))
        return np.stack(rows)


def single_input(model: Model) -> Any:
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


def _stock_model(model: Model, level: int | None) -> bytes:
    return model.to_bytes() if model.directory is None else materialize(model, level).to_bytes()


def _stock_interpreter(content: bytes) -> Any:
    try:
        interpreter = runtime().Interpreter(model_content=content, num_threads=1)
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise UnsupportedError(f"stock TensorFlow Lite does not take the model: {error}") from error
    return interpreter
