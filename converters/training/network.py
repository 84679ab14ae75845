"""The network that is trained: all levels of a model, on one set of weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from converters.affine import weight_scales
from converters.planning import PlannedFilter
from converters.quantization import WEIGHTED, Weighted
from converters.training.integers import averaged, codes_of, requantized
from converters.training.operators import Forward, Node, forward
from converters.training.options import TrainingOptions
from converters.training.preparation import Preparation
from converters.training.quantizers import (
    INT8_MAX,
    activation_at_bits,
    bucket_width,
    filter_at_level,
    filter_in_buckets,
    learned_scale,
)
from converters.training.saving import Exported
from tflnest.errors import UsageError
from tflnest.graph import Operator
from tflnest.nesting import MASTER_BITS, Scheme

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tflnest.model import Model

#: Keeps logarithms of probabilities finite.
_SMALLEST_PROBABILITY = 1e-7


@dataclass(frozen=True)
class TrainedFilter:
    """The trained parameters of an operator with a filter.

    Weights are trained as parts of what int8 can hold at first, biases as parts of the range of the outputs: a step of
    Adam then changes all operators alike, whatever the scale of the model's input is.

    Attributes:
        plan: How it nests; None where it can't.
        weight_parts: Keras variable, shaped like the filter.
        initial_scale: float32, broadcast against the filter, > 0.
        logarithm: Keras variable, shaped like `initial_scale`.
        bias_parts: One Keras variable per own level, shape (channels,), all of them one variable where the levels
            share it; empty where there is no bias.
        bias_unit: What biases are parts of, > 0.
    """

    plan: PlannedFilter | None
    weight_parts: Any
    initial_scale: NDArray[np.float32]
    logarithm: Any
    bias_parts: tuple[Any, ...]
    bias_unit: float

    @property
    def weights(self) -> Any:
        """Real numbers, shaped like the filter."""
        return self.weight_parts * (self.initial_scale * INT8_MAX)

    @property
    def biases(self) -> tuple[Any, ...]:
        """Real numbers, shape (channels,), for each own level; empty where there is no bias."""
        return tuple(parts * self.bias_unit for parts in self.bias_parts)

    @property
    def levels(self) -> tuple[int, ...]:
        """Own levels."""
        return (MASTER_BITS,) if self.nesting is None else self.nesting.levels

    @property
    def nesting(self) -> Any:
        """How the filter nests; None where it stays flat."""
        return None if self.plan is None else self.plan.nesting

    def own_position(self, position: int) -> int:
        """The own level that a level of the model runs, both by position."""
        return 0 if self.plan is None or self.nesting is None else self.plan.model_levels[position]

    def level_at(self, position: int) -> int:
        """The own level that a level of the model runs, in bits."""
        return self.levels[self.own_position(position)]

    def scales(self) -> Any:
        """The scales now, broadcast against the filter."""
        per_channel = int(np.prod(self.weight_parts.shape)) // self.initial_scale.size
        return learned_scale(self.initial_scale, self.logarithm, per_channel)

    def at(self, position: int) -> tuple[Any, Any]:
        """Filter and bias at a level of the model, by its position."""
        own = self.own_position(position)
        values = filter_at_level(self.weights, self.scales(), self.nesting, self.levels[own])
        return values, self.biases[own] if self.biases else None

    def selected(self, position: Any) -> tuple[Any, Any, Any]:
        """Filter, bias and own level in bits at a level of the model whose position is a scalar tensor."""
        if self.plan is None or self.nesting is None:
            return *self.at(0), MASTER_BITS
        own = ops.take(np.array(self.plan.model_levels, np.int32), position)
        width, middle, bits = (
            ops.take(np.array(values, np.float32), own)
            for values in (
                [bucket_width(level) for level in self.levels],
                [self.nesting.mid(level) for level in self.levels],
                self.levels,
            )
        )
        values = filter_in_buckets(self.weights, self.scales(), width, middle)
        if not self.biases:
            return values, None, bits
        return values, ops.take(ops.stack(self.biases), own, axis=0), bits


@dataclass(frozen=True)
class Width:
    """How an operator with a filter runs, for all samples or for some of them.

    Attributes:
        position: Level of the model, by position.
        bits: Width at which it reads its activation, 1 to 8.
        share: 1 for the samples that run so and 0 for the others, shape (samples,); None for all.
    """

    position: int
    bits: int
    share: Any = None


@keras.saving.register_keras_serializable("tflnest")
class NestedNetwork(Exported, keras.Model):  # type: ignore[misc]  # Keras has no type information
    """A model with all its levels, as a Keras model.

    Called, it runs the full-bit level, or that of `at_level`. In training its loss is that of the full-bit level,
    plus `alpha` times the losses of the part-bit levels, plus `distillation` times their divergence from the
    full-bit level (DQT, equation 11, without its cost term). A step may run some of the levels only, the others
    in other steps.

    Args:
        preparation: Graph, scales and levels to start from.
        options: Losses and trained parameters.
    """

    def __init__(self, preparation: Preparation, options: TrainingOptions, **arguments: Any) -> None:
        super().__init__(**arguments)
        if options.only_level not in (None, *preparation.recipe.levels):
            raise UsageError(
                f"level {options.only_level} is to be trained alone, and the levels are "
                f"{', '.join(map(str, preparation.recipe.levels))}"
            )
        self.preparation = preparation
        self.options = options
        self._position = len(preparation.recipe.levels) - 1
        self._selected: Any = None
        self._filters: dict[int, TrainedFilter] = {}
        self._activation_logarithms: dict[int, Any] = {}
        self._program: list[tuple[Operator, Forward]] = []
        subgraph = preparation.subgraph
        for operator in subgraph.operators:
            tensors = tuple(subgraph.tensors[index] if index >= 0 else None for index in operator.inputs)
            node = Node(operator, tensors, subgraph.tensors[operator.outputs[0]])
            self._program.append((operator, forward(node)))
            if operator.name in WEIGHTED:
                self._filters[operator.index] = self._new_filter(operator)
        for group in sorted(set(preparation.activations.groups.values())):
            if group not in preparation.activations.fixed:
                self._activation_logarithms[group] = self.add_weight(
                    shape=(), initializer="zeros", name=f"activation_{group}_logarithm"
                )
        self._steps = self.add_weight(
            shape=(), initializer="zeros", dtype="int32", trainable=False, name="steps"
        )
        self.supports_jit = _compiles_well()
        self.built = True

    # -------------------------------------------------------------------------------------- levels

    @property
    def levels(self) -> tuple[int, ...]:
        """Levels of the model, lowest first."""
        return self.preparation.recipe.levels

    @property
    def filters(self) -> Mapping[int, TrainedFilter]:
        """Trained filters by index of the operator."""
        return self._filters

    @property
    def size(self) -> int:
        """How many operators it has."""
        return len(self._program)

    def activation_scales(self) -> dict[int, float]:
        """The trained scale of every activation group, as float32 numbers."""
        return {
            group: float(ops.convert_to_numpy(self._activation_scale(group)))
            for group in self._activation_logarithms
        }

    @contextmanager
    def at_level(self, level: int) -> Iterator[None]:
        """Run another level for a while, for example in `evaluate`; compile again where a function was traced.

        Raises:
            UsageError: There is no such level.
        """
        if level not in self.levels:
            raise UsageError(
                f"the network has no level {level}", f"levels: {', '.join(map(str, self.levels))}"
            )
        with self._at(self.levels.index(level)):
            yield

    @contextmanager
    def _at(self, position: int) -> Iterator[None]:
        previous, self._position = self._position, position
        try:
            yield
        finally:
            self._position = previous

    # ------------------------------------------------------------------------------------- forward

    def call(self, inputs: Any, training: bool = False) -> Any:
        """The output at the present level, shape (samples, ...); rounded as the engines do it where not training."""
        values = self.start(inputs)
        self.advance(values, 0, self.size, exact=not training)
        return values[self.preparation.subgraph.outputs[0]]

    def start(self, inputs: Any) -> dict[int, Any]:
        """Values of the tensors that are known before any operator runs, by tensor index."""
        subgraph = self.preparation.subgraph
        values: dict[int, Any] = {
            tensor.index: tensor.data for tensor in subgraph.tensors if tensor.data is not None
        }
        values[-1] = None
        values[subgraph.inputs[0]] = self._quantized(subgraph.inputs[0], inputs)
        return values

    def advance(
        self,
        values: dict[int, Any],
        start: int,
        stop: int,
        widths: Mapping[int, Sequence[Width]] | None = None,
        exact: bool = False,
    ) -> None:
        """Run some of the operators.

        Args:
            values: By tensor index; what the operators write is added.
            start: The first operator.
            stop: One after the last.
            widths: Of some operators with filters, by index of the operator; their shares add up to 1 for each
                sample. The others run at the present level.
            exact: Round as the integer engines do it; nothing learns then.
        """
        for operator, compute in self._program[start:stop]:
            arguments = [values[index] for index in operator.inputs]
            integers = exact and self._is_exact(operator)
            if operator.index in self._filters and self._selected is not None:
                value = self._at_selected_level(operator, compute, arguments)
            elif operator.index in self._filters:
                chosen = (widths or {}).get(operator.index) or (self.present_width(operator.index),)
                run = self._in_integers if integers else self._rounded_once
                value = _mixed([(run(operator, compute, arguments, width), width.share) for width in chosen])
            elif integers:
                value = self._averaged(operator, compute, arguments)
            else:
                value = self._quantized(operator.outputs[0], compute(arguments))
            values[operator.outputs[0]] = value

    def _is_exact(self, operator: Operator) -> bool:
        """Whether there is integer arithmetic for an operator."""
        plan = self.preparation.activations
        if operator.options.get("fused_activation_function", "NONE") not in ("NONE", "RELU", None):
            return False
        if (
            operator.outputs[0] not in plan.parameters
            or operator.outputs[0] in self.preparation.subgraph.outputs
        ):
            return False
        return operator.index in self._filters or operator.name == "AVERAGE_POOL_2D"

    def _averaged(self, operator: Operator, compute: Forward, arguments: Sequence[Any]) -> Any:
        """The output of an average pooling, rounded as the integer engines do it."""
        scale, zero_point = self.affine(operator.outputs[0])
        return averaged(compute([codes_of(arguments[0], scale)]), zero_point) * scale

    def _in_integers(
        self, operator: Operator, compute: Forward, arguments: Sequence[Any], width: Width
    ) -> Any:
        """The output of an operator with a filter at a width, rounded as the integer engines do it."""
        scale, zero_point = self.affine(operator.outputs[0])
        place, trained = WEIGHTED[operator.name], self._filters[operator.index]
        source_scale, _ = self.affine(operator.inputs[place.data])
        weights, bias = trained.at(width.position)
        products = source_scale * ops.reshape(trained.scales(), (-1,))
        chosen = _with_parameters(
            arguments,
            place,
            codes_of(weights, trained.scales()),
            None if bias is None else codes_of(bias, products),
        )
        chosen[place.data] = codes_of(self._read(operator, arguments, width), source_scale)
        return requantized(compute(chosen), products / scale, zero_point) * scale

    def _rounded_once(
        self, operator: Operator, compute: Forward, arguments: Sequence[Any], width: Width
    ) -> Any:
        """The output of an operator with a filter at a width; learns."""
        place = WEIGHTED[operator.name]
        chosen = _with_parameters(arguments, place, *self._filters[operator.index].at(width.position))
        chosen[place.data] = self._read(operator, arguments, width)
        return self._quantized(operator.outputs[0], compute(chosen))

    def _read(self, operator: Operator, arguments: Sequence[Any], width: Width) -> Any:
        """The activation of an operator with a filter, at a width."""
        data = WEIGHTED[operator.name].data
        if width.bits == MASTER_BITS:
            return arguments[data]
        return activation_at_bits(arguments[data], *self.affine(operator.inputs[data]), width.bits)

    def present_width(self, operator: int) -> Width:
        """How an operator with a filter runs at the present level."""
        trained = self._filters[operator]
        narrow = self.options.activations and trained.nesting is not None
        return Width(self._position, trained.level_at(self._position) if narrow else MASTER_BITS)

    def _at_selected_level(self, operator: Operator, compute: Forward, arguments: Sequence[Any]) -> Any:
        """The output of an operator with a filter at a level that differs between steps."""
        place = WEIGHTED[operator.name]
        weights, bias, bits = self._filters[operator.index].selected(self._selected)
        chosen = _with_parameters(arguments, place, weights, bias)
        if self.options.activations and self._filters[operator.index].nesting is not None:
            affine = self.affine(operator.inputs[place.data])
            chosen[place.data] = activation_at_bits(arguments[place.data], *affine, bits)
        return self._quantized(operator.outputs[0], compute(chosen))

    def _quantized(self, index: int, values: Any) -> Any:
        """An activation as int8 holds it; the probabilities that the model ends with stay as they are."""
        plan = self.preparation.activations
        subgraph = self.preparation.subgraph
        if index not in plan.parameters or (index in subgraph.outputs and plan.groups[index] in plan.fixed):
            return values
        return activation_at_bits(values, *self.affine(index))

    def affine(self, index: int) -> tuple[Any, int]:
        """Scale and zero point of an activation."""
        plan = self.preparation.activations
        affine, group = plan.parameters[index], plan.groups[index]
        scale = affine.scale if group in plan.fixed else self._activation_scale(group)
        return scale, affine.zero_point

    def _activation_scale(self, group: int) -> Any:
        plan = self.preparation.activations
        members = [index for index, its in plan.groups.items() if its == group]
        count = sum(self.preparation.subgraph.tensors[index].size for index in members)
        first = plan.parameters[members[0]].scale
        if group in self._narrowed_groups():
            first *= self.options.activation_range
        return learned_scale(first, self._activation_logarithms[group], count)

    def _narrowed_groups(self) -> set[int]:
        """Groups of the activations that nested operators read."""
        groups = self.preparation.activations.groups
        operators = self.preparation.subgraph.operators
        return {
            groups[operators[index].inputs[WEIGHTED[operators[index].name].data]]
            for index, trained in self._filters.items()
            if trained.nesting is not None
        }

    # ---------------------------------------------------------------------------------------- loss

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Task loss of the full-bit level; in training those of the part-bit levels are added."""
        if training and self.options.only_level is not None:
            y_pred = self._predicted(x, self.levels.index(self.options.only_level))
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if not training or y is None or self.options.only_level is not None:
            return loss
        parts = len(self.levels) - 1
        for position, weight in self._part_bit_levels():
            predicted = self._predicted(x, position)
            task = weight * self.options.level_weight(parts)
            if task:
                loss = loss + task * super().compute_loss(x, y, predicted, sample_weight, training)
            if self.options.distillation:
                divergence = _divergence(self.probabilities(y_pred), self.probabilities(predicted))
                loss = loss + weight * self.options.distillation / parts * divergence
        return loss

    def _part_bit_levels(self) -> list[tuple[Any, float]]:
        """Positions of the part-bit levels of a training step, and what their losses are multiplied by.

        Levels that take turns weigh more, so that the loss is on average that of all levels.
        """
        parts = len(self.levels) - 1
        runs = parts if self.options.levels_per_step is None else self.options.levels_per_step - 1
        if runs >= parts:
            return [(position, 1.0) for position in range(parts)]
        always = 1 if runs > 1 else 0  # the sandwich rule: the lowest level next to the full-bit one
        taken, others = runs - always, parts - always
        first = ops.convert_to_tensor(self._steps.value) * taken
        self._steps.assign(self._steps + 1)
        turns = [(always + (first + index) % others, others / taken) for index in range(taken)]
        return [(position, 1.0) for position in range(always)] + turns

    def _predicted(self, x: Any, position: Any) -> Any:
        """The output at a level of which the position is a number or, where it differs between steps, a scalar tensor."""
        if isinstance(position, int):
            with self._at(position):
                return self(x, training=True)
        self._selected = position
        try:
            return self(x, training=True)
        finally:
            self._selected = None

    def probabilities(self, outputs: Any) -> Any:
        """Outputs, or their softmax where the model ends without one."""
        last = self.preparation.subgraph.operators[-1].name
        return outputs if last == "SOFTMAX" else ops.softmax(outputs, -1)

    # ------------------------------------------------------------------------------- saving, export

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs; the weights are saved by Keras."""
        return {
            **super().get_config(),
            "preparation": self.preparation.to_dict(),
            "options": self.options.to_dict(),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> NestedNetwork:
        """Invert `get_config`."""
        values = dict(config)
        preparation = Preparation.from_dict(values.pop("preparation"))
        options = TrainingOptions.from_dict(values.pop("options"))
        return cls(preparation, options, **values)

    def to_nested(self) -> Model:
        """The trained model as a nested int8 model; see `converters.training.exporting`."""
        from converters.training.exporting import export_nested

        return export_nested(self)

    # ---------------------------------------------------------------------------------- parameters

    def _new_filter(self, operator: Operator) -> TrainedFilter:
        place = WEIGHTED[operator.name]
        tensors = self.preparation.subgraph.tensors
        weights = np.asarray(tensors[operator.inputs[place.filter]].data, np.float32)
        bias_index = operator.inputs[place.bias] if len(operator.inputs) > place.bias else -1
        bias = None if bias_index < 0 else np.asarray(tensors[bias_index].data, np.float32).reshape(-1)
        plan = self.preparation.filters.get(operator.index)
        if plan is not None and plan.nesting is not None and plan.nesting.scheme is not Scheme.BUCKET:
            raise UsageError(f"filter {plan.tensor.name!r}: training nests by the scheme bucket only")
        affines = self.preparation.activations.parameters
        scales = weight_scales(
            weights, place.axis, bias, affines[operator.inputs[place.data]], affines[operator.outputs[0]]
        )
        shape = [1] * weights.ndim
        shape[place.axis] = -1
        initial = scales.reshape(shape)
        name = f"operator_{operator.index}"
        levels = 1 if plan is None or plan.nesting is None else len(plan.nesting.levels)
        bias_unit = INT8_MAX * float(affines[operator.outputs[0]].scale)
        return TrainedFilter(
            plan,
            self._variable(weights / (initial * INT8_MAX), f"{name}_weights"),
            initial,
            self._variable(np.zeros_like(initial), f"{name}_logarithm"),
            self._new_biases(None if bias is None else bias / np.float32(bias_unit), levels, name),
            bias_unit,
        )

    def _new_biases(self, bias: NDArray[np.float32] | None, levels: int, name: str) -> tuple[Any, ...]:
        if bias is None:
            return ()
        if not self.options.biases_per_level:
            return (self._variable(bias, f"{name}_bias"),) * levels
        return tuple(self._variable(bias, f"{name}_bias_{position}") for position in range(levels))

    def _variable(self, values: NDArray[np.float32], name: str) -> Any:
        return self.add_weight(
            shape=values.shape,
            initializer=lambda shape, dtype=None: ops.convert_to_tensor(values, dtype),
            name=name,
        )


def _compiles_well() -> bool:
    """Whether Keras may compile steps where it is not told: XLA is slow with convolutions on CPUs under TensorFlow."""
    return keras.backend.backend() != "tensorflow" or bool(keras.distribution.list_devices("gpu"))


def _with_parameters(arguments: Sequence[Any], place: Weighted, weights: Any, bias: Any) -> list[Any]:
    """The inputs of an operator with other weights and another bias."""
    chosen = [*arguments, *[None] * (place.bias + 1 - len(arguments))]
    chosen[place.filter], chosen[place.bias] = weights, bias
    return chosen


def _mixed(parts: Sequence[tuple[Any, Any]]) -> Any:
    """The sum of values, each for the samples of its share; without a share, the only value is that of all."""
    shared = [
        value if share is None else value * ops.reshape(share, (-1, *[1] * (len(value.shape) - 1)))
        for value, share in parts
    ]
    return sum(shared[1:], shared[0])


def _divergence(teacher: Any, student: Any) -> Any:
    """Mean Kullback-Leibler divergence of the student's probabilities from the teacher's, which do not learn."""
    fixed = ops.stop_gradient(ops.clip(teacher, _SMALLEST_PROBABILITY, 1.0))
    ratio = ops.log(fixed) - ops.log(ops.clip(student, _SMALLEST_PROBABILITY, 1.0))
    return ops.mean(ops.sum(fixed * ratio, -1))
