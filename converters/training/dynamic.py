"""A nested network whose widths a controller chooses for each input."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from converters.training.classifier import StemClassifier
from converters.training.controller import LOGITS, PooledFeatures, WidthController, chosen, sampled
from converters.training.controller_options import TARGET_WEIGHT, ControllerOptions, Granularity
from converters.training.costs import Costs, costs
from converters.training.network import NestedNetwork, Width
from converters.training.saving import Exported
from converters.training.stem import BATCH, Stem, find_stem, pooled_features, stem_values
from converters.training.tabulation import fit_classifier, fit_table, loss_table
from tflnest.errors import UsageError
from tflnest.progress import Progress, silent
from tflnest.widths import multiply_accumulates

if TYPE_CHECKING:
    from tflnest.model import Model

#: Steps of the bisection that finds the price of a target, and the price at which it starts.
_PRICE_STEPS, _HIGHEST_PRICE = 30, 1e3


#: Bias of what is never chosen: far below the smallest logit.
_NEVER = 4 * LOGITS.range.low


@keras.saving.register_keras_serializable("tflnest")
class DynamicNetwork(Exported, keras.Model):  # type: ignore[misc]  # Keras has no type information
    """A nested network with a controller that chooses widths for each input, as a Keras model.

    Called, every sample runs at the widths that the controller chooses for it; in training they are drawn by
    Gumbel-softmax. The loss is the task's, plus `beta` times the expected cost, plus what the mean cost is off
    the target; where the network is trained too, plus the static losses of all its levels (DQT, equation 11).

    Args:
        network: Trained or not.
        options: Choices and losses.
        features: What calibration saw of the stem's means over height and width.
    """

    def __init__(
        self, network: NestedNetwork, options: ControllerOptions, features: PooledFeatures, **arguments: Any
    ) -> None:
        super().__init__(**arguments)
        self.network, self.options = network, options
        network.trainable = options.train_network
        self.stem = find_stem(network, options.stem)
        self.choices = options.choices_of(network.levels, network.options.activations)
        whole = options.granularity is Granularity.NETWORK
        self._selection = _selection(
            options.assignments_of(len(self.choices), len(self.stem.operators)), len(self.choices)
        )
        self.classifier = _classifier(network, self.stem, options.convolutions)
        known = features if self.classifier is None else self.classifier.features
        self.controller_macs = _controller_macs(
            len(known.mean), options.hidden, len(self.stem.operators) * len(self.choices), self.classifier
        )
        self.costs = _costs(network, self.stem, self.choices, self.controller_macs)
        count = len(self._selection) if whole else len(self.choices)
        initial = [options.confidence * (item == self.preferred) for item in range(count)]
        groups = 1 if whole else len(self.stem.operators)
        self.controller = WidthController(known, groups, initial, options.hidden, name="controller")
        self.seed = keras.random.SeedGenerator()
        self.steps = self.add_weight(shape=(), initializer="zeros", trainable=False, name="steps")
        self.built = True

    # ------------------------------------------------------------------------------------- forward

    def call(self, inputs: Any, training: bool = False) -> Any:
        """The output, each sample at its own widths, shape (samples, ...)."""
        values, logits = self._logits(inputs, exact=not training)
        if not training:
            return self._finished(values, chosen(logits), exact=True)
        start, end = self.options.temperature
        progress = ops.minimum(self.steps / float(self.options.annealing_steps), 1.0)
        self.steps.assign(self.steps + 1.0)
        shares = sampled(logits, start * (end / start) ** progress, self.seed)
        self.add_loss(self._cost_loss(ops.softmax(logits, -1)))
        return self._finished(values, shares)

    def logits(self, inputs: Any) -> Any:
        """Logits of the choices, (samples, operators, choices), as int8 holds them."""
        logits = self._logits(inputs, exact=True)[1]
        if self.options.granularity is Granularity.OPERATOR:
            return logits
        # What no assignment asks for has the smallest logit; where all ask for the same, it has the only other.
        asked = self._selection.sum(axis=0)
        values = ops.where(asked > 1, 0.0, self._per_operator(logits))
        return ops.where(asked > 0, values, LOGITS.range.low)

    def _logits(self, inputs: Any, exact: bool) -> tuple[dict[int, Any], Any]:
        """Values up to the stem, and logits (samples, groups, choices)."""
        values = self.network.start(inputs)
        self.network.advance(values, 0, self.stem.ready, exact=exact)
        maps = values[self.stem.tensor]
        if self.classifier is None:
            return values, self.controller(ops.mean(maps, (1, 2)))
        pooled = self.classifier.pooled(maps, *self.network.affine(self.stem.tensor))
        return values, self.controller(self.classifier(pooled))

    def _finished(self, values: dict[int, Any], shares: Any, exact: bool = False) -> Any:
        """The output, given what each sample chose: (samples, groups, choices), 1 and 0."""
        shares = self._per_operator(shares)
        widths = {
            operator: tuple(
                Width(*self.width_at(choice), shares[:, row, choice]) for choice in range(len(self.choices))
            )
            for row, operator in enumerate(self.stem.operators)
        }
        self.network.advance(values, self.stem.ready, self.network.size, widths, exact)
        return values[self.network.preparation.subgraph.outputs[0]]

    def _per_operator(self, values: Any) -> Any:
        """Shares or probabilities of what is chosen as those of every operator's choices.

        Args:
            values: (samples, groups, options): those of the operators, or of the whole network.

        Returns:
            (samples, operators, choices).
        """
        if self.options.granularity is Granularity.OPERATOR:
            return values
        return ops.einsum("sgp,pok->sok", values, self._selection)

    # ---------------------------------------------------------------------------------------- loss

    def _cost_loss(self, probabilities: Any) -> Any:
        expected = self.costs.fixed + ops.mean(
            ops.sum(self._per_operator(probabilities) * self.costs.choices, (1, 2))
        )
        loss = self.options.beta * expected
        if self.options.target is not None:
            loss = loss + TARGET_WEIGHT * ops.square(expected - self.options.target)
        return loss

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Task loss and cost; in training of the network too, the static losses of all levels are added."""
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if not training or y is None or not self.options.train_network:
            return loss
        cost = sum(self.losses)
        weight = self.network.options.level_weight(len(self.network.levels))
        for level in self.network.levels:
            with self.network.at_level(level):
                predicted = self.network(x, training=True)
            static = super().compute_loss(x, y, predicted, sample_weight, training)
            loss = loss + weight * (static - cost)
        return loss

    # ------------------------------------------------------------------------------- what it chooses

    @property
    def preferred(self) -> int:
        """The choice, or assignment, whose cost is closest to the target; without one the dearest."""
        table = self._group_costs()
        whole = self.costs.fixed + table.sum(axis=0)
        wanted = whole.max() if self.options.target is None else self.options.target
        return int(np.abs(whole - wanted).argmin())

    def _group_costs(self) -> NDArray[np.float32]:
        """Cost of everything that there is to choose: (operators, choices), or (1, assignments)."""
        if self.options.granularity is Granularity.OPERATOR:
            return self.costs.choices
        costs: NDArray[np.float32] = np.einsum("pok,ok->p", self._selection, self.costs.choices)[None]
        return costs

    def alternatives(self) -> list[list[tuple[int, ...]]]:
        """For each choice that is made, its options, as the choice of every controlled operator.

        Where each operator has a choice of its own, the others keep the preferred one.
        """
        if self.options.granularity is Granularity.NETWORK:
            return [[tuple(item) for item in self._selection.argmax(axis=2).tolist()]]
        common = [self.preferred] * len(self.stem.operators)
        return [
            [(*common[:row], choice, *common[row + 1 :]) for choice in range(len(self.choices))]
            for row in range(len(self.stem.operators))
        ]

    def width_at(self, position: int) -> tuple[int, int]:
        """Level of the network, by position, and activation bits of a choice."""
        level, bits = self.choices[position]
        return self.network.levels.index(level), bits

    def choose(self, x: NDArray[Any], batch_size: int = BATCH) -> NDArray[np.int64]:
        """What the controller chooses.

        Args:
            x: Samples.
            batch_size: How many go through the stem together.

        Returns:
            Positions in `choices`, (samples, operators).
        """
        return self._chosen(self.features(x, batch_size))

    def fit_controller(
        self,
        x: NDArray[Any],
        y: NDArray[Any],
        *,
        epochs: int = 60,
        batch_size: int = BATCH,
        seed: int = 0,
        progress: Progress = silent,
    ) -> float:
        """Train the controller alone on a table of losses: a faster and steadier way than `fit`.

        Every choice runs once over the samples; see `converters.training.tabulation`. The network stays as it
        is. With a target in the options, the mean cost on the samples reaches it.

        Args:
            x: Samples; more of them help more than more epochs.
            y: What the compiled loss compares outputs with.
            epochs: Of the controller, at most.
            batch_size: How many samples go through the network together.
            seed: Draws the samples that decide when to stop.
            progress: Told after each choice.

        Returns:
            Share of the variance of losses between choices that the controller explains on samples which it did
            not see: 0 where stem features say nothing.

        Raises:
            UsageError: The model was not compiled with one loss, or the target can't be reached.
        """
        table = loss_table(self, x, y, batch_size, progress)
        if self.classifier is not None:
            pooled = self._at_stem(x, batch_size)
            probabilities = ops.convert_to_numpy(self.network.probabilities(table.outputs))
            fit_classifier(self.classifier, pooled, probabilities, epochs, seed)
            self.classifier.calibrate(pooled, batch_size)
        features = self.features(x, batch_size)
        self.controller.observe(PooledFeatures.of(features))
        explained = fit_table(self.controller, features, table.losses, epochs, seed)
        if self.options.target is not None:
            self.reach_target(x, batch_size=batch_size)
        return explained

    def mean_cost(self, x: NDArray[Any], batch_size: int = BATCH) -> float:
        """Mean BitOPs of samples, relative to those of the full-bit level; the controller's are counted."""
        return float(self.costs.of(self.choose(x, batch_size)).mean())

    def features(self, x: NDArray[Any], batch_size: int = BATCH) -> NDArray[np.float32]:
        """The controller's features of samples, (samples, features)."""
        if self.classifier is None:
            return pooled_features(self.network, self.stem, x, batch_size)
        pooled = self._at_stem(x, batch_size)
        parts = [
            self.classifier(pooled[start : start + batch_size]) for start in range(0, len(x), batch_size)
        ]
        return np.concatenate([ops.convert_to_numpy(part) for part in parts])

    def _at_stem(self, x: NDArray[Any], batch_size: int) -> NDArray[np.float32]:
        """What the classifier takes, of samples."""
        assert self.classifier is not None
        affine = self.network.affine(self.stem.tensor)
        maps = partial(self.classifier.pooled, scale=affine[0], zero_point=affine[1])
        return stem_values(self.network, self.stem, x, batch_size, maps)

    def calibrate(self, x: NDArray[Any], batch_size: int = BATCH) -> None:
        """Give the activations of the classifier the ranges, and the controller the features, of samples."""
        if self.classifier is not None:
            pooled = self._at_stem(x, batch_size)
            self.classifier.scale_inputs(pooled)
            self.classifier.calibrate(pooled, batch_size)
        self.controller.observe(PooledFeatures.of(self.features(x, batch_size)))

    def reach_target(self, x: NDArray[Any], target: float | None = None, batch_size: int = BATCH) -> float:
        """Shift the controller's logits so that its mean cost on samples is close to a target.

        What is drawn in training costs what the loss asks for; the largest logits, which count afterwards, may
        cost another amount. A price per BitOP, the same for all operators, is taken off the logits by their
        biases: dearer choices need more reason.

        Args:
            x: Samples, not those that measure the result.
            target: Mean BitOPs relative to full-bit; None for that of the options.
            batch_size: How many samples go through the stem together.

        Returns:
            The mean cost now.

        Raises:
            UsageError: There is no target, or no choices are that cheap or that dear.
        """
        wanted = self.options.target if target is None else target
        table = self._group_costs()
        limits = [self.costs.fixed + float(end(table, axis=1).sum()) for end in (np.min, np.max)]
        if wanted is None or not limits[0] <= wanted <= limits[1]:
            raise UsageError(
                f"a mean cost of {wanted} can't be reached",
                f"mean BitOPs can be {limits[0]:.3f} to {limits[1]:.3f} of those at full-bit",
            )
        features, bias = self.features(x, batch_size), self.controller.biases[1]
        before = np.array(ops.convert_to_numpy(bias))
        prices = self._prices()

        def cost_at(price: float) -> float:
            bias.assign(before - price * prices)
            return float(self.costs.of(self._chosen(features)).mean())

        low, high = -_HIGHEST_PRICE, _HIGHEST_PRICE
        for _ in range(_PRICE_STEPS):
            middle = (low + high) / 2
            low, high = (low, middle) if cost_at(middle) <= wanted else (middle, high)
        return cost_at(high)

    def _prices(self) -> NDArray[np.float32]:
        """Cost of every logit, as shares of what its operators cost at most: (groups * choices,), at most 1."""
        table = self._group_costs()
        centred = table - table.mean(axis=1, keepdims=True)
        whole: NDArray[np.float32] = (centred / table.max()).reshape(-1)
        return whole

    def _chosen(self, features: NDArray[np.float32]) -> NDArray[np.int64]:
        """Positions in `choices` that features lead to, (samples, operators)."""
        positions: NDArray[np.int64] = ops.convert_to_numpy(self.controller(features)).argmax(axis=2)
        if self.options.granularity is Granularity.OPERATOR:
            return positions
        chosen: NDArray[np.int64] = self._selection.argmax(axis=2)[positions[:, 0]]
        return chosen

    def per_operator(
        self, weights: NDArray[np.float32], bias: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The controller's last layer with a logit for each choice of each operator.

        Args:
            weights: (what the controller gives, hidden).
            bias: (what the controller gives,).

        Returns:
            The same with (operators * choices) rows; what is never chosen has the smallest logit, always.
        """
        if self.options.granularity is Granularity.OPERATOR:
            return weights, bias
        asked = self._selection.sum(axis=0)
        used = np.where(asked == 1, self._selection, 0.0)
        biases = np.where(asked > 1, 0.0, np.where(asked > 0, np.einsum("pok,p->ok", used, bias), _NEVER))
        filters = np.einsum("pok,ph->okh", used, weights)
        return filters.reshape(-1, weights.shape[1]).astype(np.float32), biases.reshape(-1).astype(np.float32)

    # ------------------------------------------------------------------------------- saving, export

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs; the weights are saved by Keras."""
        return {
            **super().get_config(),
            "network": self.network.get_config(),
            "options": self.options.to_dict(),
            "features": self.controller.features.to_dict(),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> DynamicNetwork:
        """Invert `get_config`."""
        values = dict(config)
        network = NestedNetwork.from_config(values.pop("network"))
        options = ControllerOptions.from_dict(values.pop("options"))
        return cls(network, options, PooledFeatures.from_dict(values.pop("features")), **values)

    def to_nested(self) -> Model:
        """The trained model as a nested int8 model with its controller."""
        from converters.training.controller_export import export_dynamic

        return export_dynamic(self)


def _classifier(network: NestedNetwork, stem: Stem, convolutions: Sequence[int]) -> StemClassifier | None:
    if not convolutions:
        return None
    subgraph = network.preparation.subgraph
    classes = subgraph.tensors[subgraph.outputs[0]].size
    if classes < 2:
        raise UsageError(
            f"a network with {classes} output can't be imitated by a classifier",
            "leave out the convolutions: means of the stem are the controller's features then",
        )
    return StemClassifier(subgraph.tensors[stem.tensor].shape[1:], convolutions, classes, name="classifier")


def _controller_macs(features: int, hidden: int, logits: int, classifier: StemClassifier | None) -> int:
    """Multiply-accumulates of a controller."""
    return hidden * (features + logits) + (0 if classifier is None else classifier.macs)


def _selection(assignments: Sequence[Sequence[int]], choices: int) -> NDArray[np.float32]:
    """1 where an assignment gives an operator a choice, (assignments, operators, choices)."""
    selected: NDArray[np.float32] = np.eye(choices, dtype=np.float32)[np.asarray(assignments)]
    return selected


def _costs(
    network: NestedNetwork, stem: Stem, choices: Sequence[tuple[int, int]], controller_macs: int
) -> Costs:
    """Costs of the choices, with a controller of so many multiply-accumulates."""
    subgraph = network.preparation.subgraph
    macs = {index: multiply_accumulates(subgraph, subgraph.operators[index]) for index in network.filters}
    present, table = {}, {}
    for index, trained in network.filters.items():
        if index in stem.operators:
            places = [network.levels.index(level) for level, _ in choices]
            table[index] = [
                (trained.level_at(place), bits) for place, (_, bits) in zip(places, choices, strict=True)
            ]
        else:
            width = network.present_width(index)
            present[index] = (trained.level_at(width.position), width.bits)
    return costs(macs, present, table, controller_macs)
