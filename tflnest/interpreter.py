"""The interpreter: runs int8 models as a microcontroller would, bit by bit.

Its interface is the one of `tf.lite.Interpreter`, with `run` for many samples and levels for nested models.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tflnest.controller_entry import Controller
from tflnest.dynamic import Assembly, DynamicProgram, assemble, choose
from tflnest.errors import UsageError
from tflnest.execution import PrepareOperator, Program, Values
from tflnest.fixedpoint import Rounding
from tflnest.graph import DTYPES, Operator, Signature, Subgraph, Tensor
from tflnest.kernels import Kernel, Node, prepare
from tflnest.kernels.registry import narrowing_kernel
from tflnest.model import Model
from tflnest.native.engine import Narrowing, NativeEngine
from tflnest.native.kernels import NativeKernel
from tflnest.native.program import NativeProgram
from tflnest.native.standalone import standalone_kernel
from tflnest.nested import NestedOperator, is_nested, parse
from tflnest.pages import FilePages, PagedConstants, PageSource, resident_pages
from tflnest.policy import Dynamic, Margin, Policy, margin_steps, margins, parse_policy
from tflnest.quantization import quantize_for
from tflnest.widths import Chosen, Record, Widths

#: The engines there are.
ENGINES = ("reference", "native")

#: Bit-width of the weights of a model that is not nested: its only level.
FULL_BITS = 8


class Interpreter:
    """Runs a model, bit by bit as TFLM's reference kernels do.

    Args:
        model_path: A `.tflite` file.
        model_content: The same, in memory.
        model: The same, loaded. Exactly one of the three is given.
        engine: "reference" is numpy; "native" is the device's C runtime, compiled for this machine at first use,
            and gives the same bits. Operators that the runtime lacks are computed by the reference kernels:
            `fallbacks` names them.
        level: The level to start at; None for the highest.
        rounding: "double" (TFLM's default) or "single" (TFLITE_SINGLE_ROUNDING; reference engine only).
        pages: Where the pages of a nested model come from; None for the file, which has them all.
        threads: How many batches of samples `run` computes at the same time; of use with the native engine.
        policy: "static" runs the level that is set; "dynamic" lets the model's controller choose for each input, up
            to the level that is set and to what is resident; "margin:0.2" (`tflnest.policy.Margin`) runs the lowest
            level, and the one that is set where the outputs of the lowest are too close.

    Raises:
        UsageError: An argument makes no sense, or the model has no controller, or no lower level, as the policy asks.
        UnsupportedError: The native engine was asked for, and there is no C compiler.
        FormatError: The model is corrupt.
    """

    def __init__(
        self,
        model_path: str | Path | None = None,
        model_content: bytes | None = None,
        *,
        model: Model | None = None,
        engine: str = "reference",
        level: int | Mapping[str, int] | None = None,
        rounding: str | Rounding = Rounding.DOUBLE,
        pages: PageSource | None = None,
        threads: int = 1,
        policy: str | Policy = "static",
    ) -> None:
        if engine not in ENGINES:
            raise UsageError(f"there is no engine {engine!r}", f"engines: {', '.join(ENGINES)}")
        if rounding not in tuple(Rounding):
            raise UsageError(f"there is no rounding {rounding!r}", f"roundings: {', '.join(Rounding)}")
        if engine == "native" and rounding != Rounding.DOUBLE:
            raise UsageError(f"the native engine rounds double, not {rounding}", "take the engine reference")
        if threads < 1:
            raise UsageError(f"{threads} threads make no sense", "give 1 or more")
        self.engine = engine
        self.threads = threads
        self._native = NativeEngine() if engine == "native" else None
        self.rounding = Rounding(rounding)
        self.model = _load(model_path, model_content, model)
        self._subgraph = self.model.graph.main
        self._tensors: Sequence[Tensor] = self._subgraph.tensors
        self._kernels: dict[tuple[int, int, int], Kernel] = {}
        self._alone: dict[tuple[int, int, int], Kernel] = {}
        self._nested = _nested_operators(self._subgraph)
        self._pages = pages
        self._constants: PagedConstants | None = None
        self._open_pages()
        self._levels = self._own_levels(self.levels[-1] if not isinstance(level, int) else level)
        self._program: Program | None = None
        self._values: Values = []
        if isinstance(level, Mapping):
            self.set_level(level)
        self.policy = parse_policy(policy)
        self._controller = self._policy_controller()
        self._assembly = self._assemble()
        self._first = self._margin_interpreter()
        self._last: Widths | Record | None = None

    # ---------------------------------------------------------------------------------------- levels

    @property
    def levels(self) -> tuple[int, ...]:
        """The levels of the model, lowest first; a model that is not nested has one, 8."""
        directory = self.model.directory
        return (FULL_BITS,) if directory is None else directory.levels

    def get_levels(self) -> dict[str, int]:
        """The bit-width that each nested operator runs at now, by scope."""
        return {nested.scope: self._levels[index] for index, nested in self._nested.items()}

    def set_level(self, level: int | Mapping[str, int]) -> None:
        """Choose the level of the next invokes.

        Args:
            level: One of `levels` for the whole model; or bit-widths by regular expression, searched in the
                scopes of the nested operators (`get_levels` lists them), which leaves all others as they are.

        Raises:
            UsageError: There is no such level, or no such operator.
            PageNotResidentError: A page that the level needs is not resident; nothing has changed.
        """
        levels = self._matched_levels(level) if isinstance(level, Mapping) else self._own_levels(level)
        self._require_pages(levels)
        previous, self._levels = self._levels, levels
        if self._program is not None:
            try:
                self._program.prepare(self._prepare_step)
            except BaseException:
                self._levels = previous
                raise

    def _own_levels(self, level: int) -> dict[int, int]:
        """The bit-width of every nested operator at a level of the model."""
        if level not in self.levels:
            names = ", ".join(str(name) for name in self.levels)
            raise UsageError(f"the model has no level {level}", f"levels: {names}")
        position = self.levels.index(level)
        return {index: nested.level_at(position) for index, nested in self._nested.items()}

    def _matched_levels(self, wanted: Mapping[str, int]) -> dict[int, int]:
        levels = dict(self._levels)
        for scope, level in wanted.items():
            try:
                matched = [index for index, nested in self._nested.items() if re.search(scope, nested.scope)]
            except re.error as error:
                raise UsageError(f"the scope {scope!r} is no regular expression: {error}") from None
            if not matched:
                raise UsageError(
                    f"no nested operator matches the scope {scope!r}", "get_levels() lists the scopes"
                )
            for index in matched:
                own = self._nested[index].nesting.levels
                if level not in own:
                    names = ", ".join(map(str, own))
                    raise UsageError(
                        f"{self._nested[index].scope!r} has no level {level}", f"its levels: {names}"
                    )
                levels[index] = level
        return levels

    def _open_pages(self) -> None:
        directory = self.model.directory
        if directory is None:
            return
        if self._pages is None:
            self._pages = FilePages(self.model.to_bytes(), directory)
        self._constants = PagedConstants(directory, self._pages)

    def _require_pages(self, levels: Mapping[int, int]) -> None:
        """Touch every page that the levels need, so that an absent one is noticed before anything runs.

        What a controller chooses for is not asked: it runs at what is resident.
        """
        if self._pages is None:
            return
        highest = 0
        controlled = () if self._controller is None else self._controller.operators
        for index, level in levels.items():
            if index in controlled:
                continue
            nested = self._nested[index]
            highest = max(highest, nested.page_of(nested.nesting.index(level)))
        for page in range(highest + 1):
            self._pages.read(page)

    def _prepare(self, operator: Operator, level: int, bits: int) -> Kernel:
        """The kernel of an operator with weights and activation of so many bits; prepared once."""
        key = operator.index, level, bits
        kernel = self._kernels.get(key)
        if kernel is None:
            nested = self._nested.get(operator.index)
            spare = self._assembly.spares.get(operator.index)
            narrowing = None if spare is None else Narrowing(bits, spare)
            if nested is None:
                kernel = self._prepare_stock(operator, bits, narrowing)
            else:
                kernel = self._prepare_nested(nested, level, bits, narrowing)
            self._kernels[key] = kernel
        return kernel

    def _node(self, operator: Operator) -> Node:
        inputs = tuple(self._tensors[index] if index >= 0 else None for index in operator.inputs)
        outputs = tuple(self._tensors[index] for index in operator.outputs)
        return Node(operator, inputs, outputs, self.rounding)

    def _prepare_stock(self, operator: Operator, bits: int, narrowing: Narrowing | None) -> Kernel:
        node = self._node(operator)
        if self._native is None:
            return narrowing_kernel(prepare(node), bits)
        return self._native.stock_kernel(node, self._tensors, narrowing)

    def _prepare_nested(
        self, nested: NestedOperator, level: int, bits: int, narrowing: Narrowing | None
    ) -> Kernel:
        """The kernel of a nested operator with weights and activation of so many bits."""
        assert self._constants is not None
        if self._native is not None:
            return self._native.nested_kernel(
                nested,
                self._subgraph,
                level,
                self._constants.read,
                lambda: self._expand(nested, level, bits),
                narrowing,
            )
        return self._expand(nested, level, bits)

    def _expand(self, nested: NestedOperator, level: int, bits: int) -> Kernel:
        """The reference kernel that a nested operator is with weights and activation of so many bits."""
        assert self._constants is not None
        form = nested.stock_form(self._subgraph, level, self._constants.read)
        activation = self._tensors[nested.operator.inputs[0]]
        outputs = tuple(self._tensors[index] for index in nested.operator.outputs)
        kernel = prepare(Node(form.operator, (activation, form.filter, form.bias), outputs, self.rounding))
        constants = (form.filter.data, form.bias.data)
        expanded = Kernel(lambda arrays: kernel.evaluate((arrays[0], *constants)), kernel.batchable)
        return narrowing_kernel(expanded, bits)

    def _prepare_now(self, operator: Operator, tensors: Sequence[Tensor]) -> Kernel:
        """The kernel of an operator at its present level."""
        self._tensors = tensors
        return self._prepare(operator, *self._static_bits(operator.index))

    def _static_bits(self, index: int) -> tuple[int, int]:
        """Bits of weights and activation of an operator at its present level."""
        nested = self._nested.get(index)
        if nested is None:
            return FULL_BITS, FULL_BITS
        level = self._levels[index]
        return level, nested.activation_bits[nested.nesting.index(level)]

    @property
    def _prepare_step(self) -> PrepareOperator:
        """What makes the kernels of the program's steps."""
        return self._prepare_now if self._controller is None else self._prepare_alone_now

    # -------------------------------------------------------------------------------------- policies

    def _policy_controller(self) -> Controller | None:
        """The controller that chooses; None where none does."""
        if not isinstance(self.policy, Dynamic):
            return None
        controller = self.model.controller
        if controller is None:
            raise UsageError(
                "the policy dynamic needs a controller, and the model has none",
                "train one, or take the policy static or margin",
            )
        return controller

    def _assemble(self) -> Assembly:
        narrowing = {
            index for index, nested in self._nested.items() if min(nested.activation_bits) < FULL_BITS
        }
        if self._controller is not None:
            narrowing.update(self._controller.operators)
        return assemble(self.model.graph, self._controller, narrowing)

    def _margin_interpreter(self) -> Interpreter | None:
        """What runs first under a margin."""
        if not isinstance(self.policy, Margin):
            return None
        if self.policy.threshold is None:
            raise UsageError(
                "the margin has no threshold",
                "calibrate it: tflnest.margin.calibrate_margin, or tflnest eval --policy margin:auto",
            )
        low = self.levels[0] if self.policy.level is None else self.policy.level
        if len(self.levels) < 2 or low == self.levels[-1]:
            raise UsageError(f"the policy {self.policy} needs a level below the full-bit one")
        self._margin_steps = margin_steps(self.policy.threshold, self._subgraph.output_tensors()[0])
        if any(tensor.is_variable for tensor in self._subgraph.tensors):
            raise UsageError("the model has variables: an input cannot be run twice")
        return Interpreter(
            model=self.model,
            engine=self.engine,
            level=low,
            rounding=self.rounding,
            pages=self._pages,
            threads=self.threads,
        )

    @property
    def widths(self) -> Widths:
        """Bits of weights and activations of every operator with a filter, for each input of the last invoke or run.

        Raises:
            UsageError: Nothing has run yet.
        """
        if self._last is None:
            raise UsageError("nothing has run yet", "call run() or invoke() first")
        if isinstance(self._last, Record):
            self._last = self._last.widths()
        return self._last

    def _record(self, chosen: Sequence[Chosen | None], samples: int) -> None:
        """Keep what ran, for `widths`."""
        controlled = () if self._controller is None else self._controller.operators
        subgraph = self._assembly.subgraph
        bits = {operator.index: self._static_bits(operator.index) for operator in subgraph.operators}
        rows = [part for part in chosen if part is not None]
        self._last = Record(subgraph, bits, controlled, rows, samples)

    def _choose(self, logits: NDArray[np.int8]) -> Chosen:
        """What the controller wants, as far as levels are allowed and pages resident."""
        assert self._controller is not None and self._pages is not None
        resident = resident_pages(self._pages, len(self.levels))
        return choose(
            self._controller, logits, self._nested, self._levels, self.levels[:resident], self.levels
        )

    def _prepare_alone(self, operator: Operator, level: int, bits: int) -> Kernel:
        """A kernel that computes any number of samples by itself; prepared once."""
        key = operator.index, level, bits
        kernel = self._alone.get(key)
        if kernel is None:
            kernel = self._prepare(operator, level, bits)
            if isinstance(kernel, NativeKernel):
                kernel = standalone_kernel(self._node(operator), self._tensors, kernel)
            self._alone[key] = kernel
        return kernel

    def _prepare_alone_now(self, operator: Operator, tensors: Sequence[Tensor]) -> Kernel:
        """The same at the present level; of controlled operators at their lowest, which is always resident."""
        self._tensors = tensors
        level, bits = self._static_bits(operator.index)
        assert self._controller is not None
        if operator.index in self._controller.operators and operator.index in self._nested:
            level = self._nested[operator.index].nesting.levels[0]
        return self._prepare_alone(operator, level, bits)

    def _new_program(self) -> Program:
        subgraph = self._assembly.subgraph
        if self._controller is not None:
            return DynamicProgram(
                self._assembly,
                self._controller.operators,
                self._prepare_alone_now,
                self._prepare_alone,
                self._choose,
            )
        if self._native is not None:
            return NativeProgram(subgraph, self._prepare_now, self._native.library)
        return Program(subgraph, self._prepare_now)

    @property
    def fallbacks(self) -> dict[str, str]:
        """Operators that the native engine leaves to the reference kernels, by label, with the reason."""
        if self._native is None:
            return {}
        if self._program is None:
            self.allocate_tensors()
        return dict(self._native.fallbacks)

    # --------------------------------------------------------------------------------------- tensors

    def allocate_tensors(self) -> None:
        """Check the model and prepare its operators. What was set before is forgotten.

        Raises:
            FormatError: The model contradicts itself.
            UnsupportedError: It uses an operator, option or type that is not supported, or too much memory.
        """
        self._require_pages(self._levels)
        self._kernels.clear()
        self._alone.clear()
        program = self._new_program()
        program.prepare(self._prepare_step)
        if self._first is not None:
            self._first.allocate_tensors()
        self._values = program.initial_values()
        self._program = program

    def get_input_details(self) -> list[dict[str, Any]]:
        """What a caller has to know of each input, as `get_tensor_details`."""
        return [tensor_details(tensor) for tensor in self._subgraph.input_tensors()]

    def get_output_details(self) -> list[dict[str, Any]]:
        """What a caller has to know of each output, as `get_tensor_details`."""
        return [tensor_details(tensor) for tensor in self._subgraph.output_tensors()]

    def get_tensor_details(self) -> list[dict[str, Any]]:
        """Name, index, shape, dtype and quantization of every tensor, with the keys of tf.lite.

        Tensors of types that numpy does not have are left out.
        """
        return [tensor_details(tensor) for tensor in self._subgraph.tensors if tensor.type in DTYPES]

    def set_tensor(self, tensor_index: int, value: ArrayLike) -> None:
        """Give an input (or a variable) its value, which is copied.

        Args:
            tensor_index: "index" of the details.
            value: Of exactly the tensor's dtype and shape.

        Raises:
            UsageError: Not allocated, no such input, or another dtype or shape.
        """
        self._allocated()
        tensor = self._tensor(tensor_index)
        if tensor.index not in self._subgraph.inputs and not tensor.is_variable:
            raise UsageError(
                f"tensor {tensor.label} is not an input", f"inputs: {list(self._subgraph.inputs)}"
            )
        array = np.asarray(value)
        if array.dtype != tensor.dtype:
            raise UsageError(f"tensor {tensor.label} takes {tensor.dtype}, and got {array.dtype}")
        if array.shape != tensor.shape:
            raise UsageError(
                f"tensor {tensor.label} has shape {list(tensor.shape)}, and got {list(array.shape)}"
            )
        self._values[tensor.index] = array.copy()

    def get_tensor(self, tensor_index: int) -> NDArray[Any]:
        """A copy of a tensor's value: a constant, an input, or whatever the last invoke computed.

        Args:
            tensor_index: "index" of the details; any tensor, intermediate ones too.

        Raises:
            UsageError: Not allocated, no such tensor, or it has no value yet.
        """
        self._allocated()
        tensor = self._tensor(tensor_index)
        value = self._values[tensor.index]
        if value is None:
            raise UsageError(f"tensor {tensor.label} has no value yet", "call invoke() first")
        return value.copy()

    def invoke(self) -> None:
        """Run the model on the inputs that were set.

        Raises:
            UsageError: Not allocated.
            FormatError: An operator gives a shape that the file contradicts.
            PageNotResidentError: A page that the present level needs is not resident.
        """
        program = self._allocated()
        if self._first is not None and self._is_sure():
            return
        self._require_pages(self._levels)
        self._record([program.execute(self._values)], 1)
        if self._first is not None:
            self._last = Widths.joined([self._first.widths, self.widths])

    def _is_sure(self) -> bool:
        """Run the low level of a margin; where its outputs are far enough apart, they are the result."""
        first = self._first
        assert first is not None
        for index in self._subgraph.inputs:
            first._values[index] = self._values[index]
        first.invoke()
        values = first._values[self._subgraph.outputs[0]]
        assert values is not None
        if margins(values)[0] < self._margin_steps:
            return False
        for index in range(len(self._subgraph.tensors)):
            self._values[index] = first._values[index]
        self._last = first.widths
        return True

    def _allocated(self) -> Program:
        if self._program is None:
            raise UsageError("the tensors are not allocated", "call allocate_tensors() first")
        return self._program

    def _tensor(self, index: int) -> Tensor:
        if not 0 <= index < len(self._subgraph.tensors):
            raise UsageError(f"there is no tensor {index}; the model has {len(self._subgraph.tensors)}")
        return self._subgraph.tensors[index]

    # -------------------------------------------------------------------------------------- many samples

    def run(self, x: ArrayLike | Sequence[ArrayLike]) -> NDArray[Any] | tuple[NDArray[Any], ...]:
        """Run the model on any number of samples; what `set_tensor` and `get_tensor` see is not touched.

        Args:
            x: Samples first, shape (n, ...): n is a multiple of the model's own batch, mostly 1. Of the
                input's dtype, or float, which is quantized with the input's scale and zero point. One such
                array per input, in order, where the model has several.

        Returns:
            The output, samples first, of the output's dtype; a tuple where the model has several.

        Raises:
            UsageError: The arrays do not fit the inputs.
        """
        if self._program is None:
            self.allocate_tensors()
        program = self._allocated()
        self._require_pages(self._levels)
        inputs = self._subgraph.input_tensors()
        arrays: list[Any] = [x] if len(inputs) == 1 else list(_sequence(x, len(inputs)))
        fitted = [fit_samples(tensor, array) for tensor, array in zip(inputs, arrays, strict=True)]
        counts = {len(array) // _batch(tensor) for tensor, array in zip(inputs, fitted, strict=True)}
        if len(counts) > 1:
            raise UsageError(f"the inputs have different numbers of samples: {sorted(counts)}")
        if self._first is not None:
            outputs = self._run_margin(program, fitted, counts.pop())
        else:
            outputs = self._run_batches(program, fitted, counts.pop())
        return outputs[0] if len(outputs) == 1 else outputs

    def _run_margin(
        self, program: Program, arrays: Sequence[NDArray[Any]], count: int
    ) -> tuple[NDArray[Any], ...]:
        """Run the low level on all samples, and the one that is set where that is unsure."""
        first = self._first
        assert first is not None
        given = first.run(arrays[0] if len(arrays) == 1 else arrays)
        outputs = given if isinstance(given, tuple) else (given,)
        again = np.flatnonzero(margins(outputs[0]) < self._margin_steps)
        if not again.size:
            self._last = first.widths
            return outputs
        self._require_pages(self._levels)
        repeated = self._run_batches(program, [array[again] for array in arrays], again.size)
        for output, values in zip(outputs, repeated, strict=True):
            output[again] = values
        self._last = Widths.joined([first.widths, self.widths.of_samples(again)])
        return outputs

    def _run_batches(
        self, program: Program, arrays: Sequence[NDArray[Any]], count: int
    ) -> tuple[NDArray[Any], ...]:
        inputs, outputs = self._subgraph.input_tensors(), self._subgraph.output_tensors()
        results: list[NDArray[Any]] = [
            np.empty((count * tensor.shape[0], *tensor.shape[1:]) if tensor.shape else (count,), tensor.dtype)
            for tensor in outputs
        ]
        constants = program.initial_values()
        batchable = program.batchable
        step = 1
        if batchable:
            step = max(min(program.samples_per_batch, -(-count // self.threads)), 1)

        chosen: dict[int, Chosen | None] = {}

        def run_from(start: int) -> None:
            stop = min(start + step, count)
            values = list(constants)
            for tensor, array in zip(inputs, arrays, strict=True):
                values[tensor.index] = array[start * _batch(tensor) : stop * _batch(tensor)].reshape(
                    (-1, *tensor.shape[1:]) if tensor.shape else ()
                )
            if batchable:
                chosen[start] = program.execute_batch(values, stop - start)
            else:
                chosen[start] = program.execute(values, kept=False)
            for tensor, result in zip(outputs, results, strict=True):
                result[start * _batch(tensor) : stop * _batch(tensor)] = values[tensor.index]

        starts = range(0, count, step)
        if self.threads > 1 and len(starts) > 1:
            with ThreadPoolExecutor(self.threads) as pool:
                deque(pool.map(run_from, starts), maxlen=0)
        else:
            for start in starts:
                run_from(start)
        self._record([chosen[start] for start in starts], count)
        return tuple(results)

    # ---------------------------------------------------------------------------------------- signatures

    def get_signature_list(self) -> dict[str, dict[str, list[str]]]:
        """Names of the inputs and outputs of each signature, as in tf.lite."""
        return {
            signature.key: {"inputs": sorted(signature.inputs), "outputs": sorted(signature.outputs)}
            for signature in self.model.graph.signatures
        }

    def get_signature_runner(self, signature_key: str | None = None) -> SignatureRunner:
        """A function of named arguments.

        Args:
            signature_key: Which signature; may be None where there is just one.

        Raises:
            UsageError: There is no such signature, or it is not of the main subgraph.
        """
        signatures = {signature.key: signature for signature in self.model.graph.signatures}
        if signature_key is None and len(signatures) == 1:
            signature_key = next(iter(signatures))
        signature = signatures.get(signature_key or "")
        if signature is None:
            names = ", ".join(sorted(signatures)) or "none"
            raise UsageError(f"the model has no signature {signature_key!r}", f"signatures: {names}")
        if signature.subgraph != self._subgraph.index:
            raise UsageError(
                f"signature {signature_key!r} is of subgraph {signature.subgraph}; only 0 is run"
            )
        return SignatureRunner(self, signature)


class SignatureRunner:
    """Runs a model by the names of a signature: `runner(x=...)["y"]`.

    Args:
        interpreter: Runs the model; allocated on the first call where it is not yet.
        signature: Gives the names.
    """

    def __init__(self, interpreter: Interpreter, signature: Signature) -> None:
        self._interpreter = interpreter
        self._signature = signature

    def get_input_details(self) -> dict[str, dict[str, Any]]:
        """Details of each input by name."""
        return self._details(self._signature.inputs)

    def get_output_details(self) -> dict[str, dict[str, Any]]:
        """Details of each output by name."""
        return self._details(self._signature.outputs)

    def _details(self, names: Mapping[str, int]) -> dict[str, dict[str, Any]]:
        tensors = self._interpreter.model.graph.subgraphs[self._signature.subgraph].tensors
        return {name: tensor_details(tensors[index]) for name, index in names.items()}

    def __call__(self, **arguments: ArrayLike) -> dict[str, NDArray[Any]]:
        """Set the inputs, invoke, and return the outputs.

        Raises:
            UsageError: An argument is missing, unknown, or of another dtype or shape.
        """
        expected = self._signature.inputs
        if set(arguments) != set(expected):
            raise UsageError(f"the arguments are {sorted(arguments)}, and must be {sorted(expected)}")
        if self._interpreter._program is None:
            self._interpreter.allocate_tensors()
        for name, value in arguments.items():
            self._interpreter.set_tensor(expected[name], value)
        self._interpreter.invoke()
        return {name: self._interpreter.get_tensor(index) for name, index in self._signature.outputs.items()}


def tensor_details(tensor: Tensor) -> dict[str, Any]:
    """What `tf.lite.Interpreter` tells of a tensor."""
    quantization = tensor.quantization
    scales = np.zeros(0, np.float32) if quantization is None else quantization.scale.copy()
    zero_points = np.zeros(0, np.int32)
    if quantization is not None:
        zero_points = np.broadcast_to(quantization.zero_point, scales.shape).astype(np.int32)
    per_tensor = scales.size == 1
    return {
        "name": tensor.name,
        "index": tensor.index,
        "shape": np.array(tensor.shape, np.int32),
        "shape_signature": np.array(tensor.shape_signature, np.int32),
        "dtype": tensor.dtype.type,
        "quantization": (float(scales[0]), int(zero_points[0])) if per_tensor else (0.0, 0),
        "quantization_parameters": {
            "scales": scales,
            "zero_points": zero_points,
            "quantized_dimension": 0 if quantization is None else quantization.axis,
        },
        "sparsity_parameters": {},
    }


def fit_samples(tensor: Tensor, x: ArrayLike) -> NDArray[Any]:
    """An array of samples in the dtype of an input.

    Raises:
        UsageError: Its dtype or shape does not fit; the message has both.
    """
    array = np.asarray(x)
    if array.ndim != max(len(tensor.shape), 1) or array.shape[1:] != tensor.shape[1:]:
        expected = ["n", *tensor.shape[1:]]
        raise UsageError(
            f"input {tensor.label} takes arrays of shape [{', '.join(map(str, expected))}], "
            f"and got {list(array.shape)}"
        )
    if len(array) % _batch(tensor):
        raise UsageError(
            f"input {tensor.label} takes {_batch(tensor)} samples at a time, and got {len(array)}"
        )
    if array.dtype == tensor.dtype:
        return array
    if np.issubdtype(array.dtype, np.floating):
        return array.astype(tensor.dtype) if tensor.dtype.kind == "f" else quantize_for(tensor, array)
    raise UsageError(f"input {tensor.label} takes {tensor.dtype} or floats, and got {array.dtype}")


def _batch(tensor: Tensor) -> int:
    """Samples in one invoke; a scalar is one sample."""
    return max(tensor.shape[0], 1) if tensor.shape else 1


def _sequence(x: Any, count: int) -> Sequence[ArrayLike]:
    if not isinstance(x, (list, tuple)) or len(x) != count:
        raise UsageError(f"the model has {count} inputs: a list of {count} arrays is expected")
    return x


def _nested_operators(subgraph: Subgraph) -> dict[int, NestedOperator]:
    return {
        operator.index: parse(operator, subgraph) for operator in subgraph.operators if is_nested(operator)
    }


def _load(path: str | Path | None, content: bytes | None, model: Model | None) -> Model:
    if sum(source is not None for source in (path, content, model)) != 1:
        raise UsageError("exactly one of model_path, model_content and model is expected")
    if model is not None:
        return model
    return Model.load(path) if path is not None else Model.from_bytes(content or b"")
