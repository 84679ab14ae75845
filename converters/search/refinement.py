"""Which layers get more or fewer bits next, by divergence (SigmaQuant, phase 2).

The paper ranks layers by divergence alone. Ranking by the divergence that a step changes per weight it pays for is
ours: small layers are raised and large ones lowered first. A search tries both.
"""

from __future__ import annotations

from collections.abc import Sequence

from converters.search.layers import Layer

#: Layers that change per step.
LAYERS_PER_STEP = 2

Widths = tuple[int, ...]


def raised(
    layers: Sequence[Layer],
    widths: Sequence[int],
    choices: Sequence[int],
    count: int = LAYERS_PER_STEP,
    *,
    per_weight: bool = False,
) -> Widths:
    """The layers that diverge most get the next larger width; of equal ones the smaller layer.

    Args:
        layers: All layers.
        widths: Their widths now.
        choices: Widths that there are, increasing.
        count: How many layers change, at most.
        per_weight: Rank by the divergence that is won per weight.
    """
    able = [number for number, width in enumerate(widths) if width < choices[-1]]

    def rank(number: int) -> tuple[float, int]:
        layer, width = layers[number], widths[number]
        won = layer.divergence[width]
        if per_weight:
            won = (won - layer.divergence[_next(choices, width, 1)]) / layer.weights
        return -won, layer.weights

    return _changed(widths, sorted(able, key=rank)[:count], choices, 1)


def lowered(
    layers: Sequence[Layer],
    widths: Sequence[int],
    choices: Sequence[int],
    count: int = LAYERS_PER_STEP,
    *,
    per_weight: bool = False,
) -> Widths:
    """The layers that would diverge least at the next smaller width get it; of equal ones the larger layer."""
    able = [number for number, width in enumerate(widths) if width > choices[0]]

    def rank(number: int) -> tuple[float, int]:
        layer, width = layers[number], widths[number]
        lost = layer.divergence[_next(choices, width, -1)]
        if per_weight:
            lost = (lost - layer.divergence[width]) / layer.weights
        return lost, -layer.weights

    return _changed(widths, sorted(able, key=rank)[:count], choices, -1)


def exchanged(
    layers: Sequence[Layer], widths: Sequence[int], choices: Sequence[int], *, per_weight: bool = False
) -> Widths:
    """One layer up and another one down: for attempts that miss accuracy and size both."""
    up = raised(layers, widths, choices, 1, per_weight=per_weight)
    fixed = [number for number, pair in enumerate(zip(up, widths, strict=True)) if pair[0] != pair[1]]
    rest = [number for number in range(len(widths)) if number not in fixed]
    down = lowered(
        [layers[number] for number in rest],
        [up[number] for number in rest],
        choices,
        1,
        per_weight=per_weight,
    )
    changed = dict(zip(rest, down, strict=True))
    return tuple(changed.get(number, width) for number, width in enumerate(up))


def _next(choices: Sequence[int], width: int, step: int) -> int:
    return choices[choices.index(width) + step]


def _changed(widths: Sequence[int], numbers: Sequence[int], choices: Sequence[int], step: int) -> Widths:
    return tuple(
        _next(choices, width, step) if number in numbers else width for number, width in enumerate(widths)
    )
