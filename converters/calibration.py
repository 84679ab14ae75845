"""Ranges of a float model's tensors over calibration data, measured with stock TensorFlow Lite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tflnest.dataset import Dataset
from tflnest.errors import FormatError, TflnestError, UnsupportedError
from tflnest.graph import Subgraph
from tflnest.model import Model
from tflnest.progress import Progress, silent
from tflnest.schema import runtime


@dataclass(frozen=True)
class Range:
    """Smallest and largest value of a tensor that was seen; low <= high, both finite."""

    low: float
    high: float

    def union(self, other: Range) -> Range:
        """The smallest range that holds both."""
        return Range(min(self.low, other.low), max(self.high, other.high))


def collect_ranges(model: Model, data: Dataset, progress: Progress = silent) -> Mapping[int, Range]:
    """Run a float model over data, one sample at a time, and keep the range of every float activation.

    Stock kernels run without delegates and in one thread, so that every tensor can be read and the result is
    the same each time. Memory is that of one inference.

    Args:
        model: A float model with one input, batch 1.
        data: The calibration samples.
        progress: Told after each sample.

    Returns:
        The range by tensor index of the main subgraph.

    Raises:
        UnsupportedError: The model has not exactly one input, or stock TensorFlow Lite does not run it.
        FormatError: The data does not fit the input, or makes the model compute NaN or infinity.
    """
    subgraph = model.graph.main
    if len(subgraph.inputs) != 1:
        raise UnsupportedError(
            f"the model has {len(subgraph.inputs)} inputs, and calibration feeds exactly one"
        )
    samples = data.inputs_for(subgraph.input_tensors()[0])
    watched = _activations(subgraph)
    low = np.full(len(watched), np.inf)
    high = np.full(len(watched), -np.inf)
    interpreter = _interpreter(model)
    for number in range(len(samples)):
        _invoke(interpreter, subgraph, samples[number])
        for position, index in enumerate(watched):
            values: NDArray[np.float32] = interpreter.get_tensor(index)
            low[position] = np.minimum(low[position], values.min())
            high[position] = np.maximum(high[position], values.max())
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            worst = watched[int(np.flatnonzero(~(np.isfinite(low) & np.isfinite(high)))[0])]
            raise FormatError(
                f"{data.name}: sample {number} makes tensor {subgraph.tensors[worst].label} NaN or infinite",
                "check the scaling of the samples, and the weights of the model",
            )
        progress("calibrating", number + 1, len(samples))
    return {index: Range(float(low[i]), float(high[i])) for i, index in enumerate(watched)}


def _activations(subgraph: Subgraph) -> list[int]:
    """Float tensors that are not constants and hold at least one value."""
    used = {index for operator in subgraph.operators for index in (*operator.inputs, *operator.outputs)}
    used |= {*subgraph.inputs, *subgraph.outputs}
    tensors = (subgraph.tensors[index] for index in sorted(used - {-1}))
    return [item.index for item in tensors if item.type == "FLOAT32" and not item.is_constant and item.size]


def _interpreter(model: Model) -> Any:
    lite = runtime()
    try:
        interpreter = lite.Interpreter(
            model_content=model.to_bytes(),
            num_threads=1,
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=lite.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise UnsupportedError(f"stock TensorFlow Lite does not load the float model: {error}") from error
    return interpreter


def _invoke(interpreter: Any, subgraph: Subgraph, sample: NDArray[np.float32]) -> None:
    tensor = subgraph.input_tensors()[0]
    try:
        interpreter.set_tensor(tensor.index, np.ascontiguousarray(sample).reshape(tensor.shape))
        interpreter.invoke()
    except (RuntimeError, ValueError) as error:
        raise TflnestError(f"stock TensorFlow Lite failed to run the float model: {error}") from error
