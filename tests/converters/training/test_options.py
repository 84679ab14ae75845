"""Options of a nested training."""

from __future__ import annotations

import pytest

from converters.training.options import TrainingOptions
from tflnest.errors import UsageError


def test_the_losses_of_part_bit_levels_weigh_as_much_as_the_full_bit_one_by_default() -> None:
    assert TrainingOptions().level_weight(3) == pytest.approx(1 / 3)
    assert TrainingOptions(alpha=0.5).level_weight(3) == 0.5


def test_a_network_of_one_level_has_no_part_bit_levels_to_divide_by() -> None:
    assert TrainingOptions().level_weight(0) == 1.0


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_weights_of_losses_are_checked(value: float) -> None:
    with pytest.raises(UsageError, match="0 or more was expected"):
        TrainingOptions(alpha=value)
    with pytest.raises(UsageError, match="distillation"):
        TrainingOptions(distillation=value)


def test_options_survive_a_round_trip() -> None:
    options = TrainingOptions(alpha=0.25, distillation=0.0, biases_per_level=False, activations=True)
    assert TrainingOptions.from_dict(options.to_dict()) == options
