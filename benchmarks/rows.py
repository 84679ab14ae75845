"""The rows of the accuracy tables: ways to nest, as options of `tflnest.convert`, and models that nest nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from converters.recipe import BaseWidths, Bias, Recipe, Scale, load_recipe

LEVELS = (8, 6, 5, 4, 3)
Chain = tuple[int, ...]

#: Which chain shows a level: NestQuant's pairs, one file per level, and chains that share their levels.
PAIRS: dict[int, Chain] = {8: (6, 8), 6: (6, 8), 5: (5, 8), 4: (4, 8), 3: (3, 8)}
ALONE: dict[int, Chain] = {6: (6,), 5: (5,), 4: (4,), 3: (3,)}
CHAINS: dict[int, Chain] = {8: (4, 6, 8), 6: (4, 6, 8), 5: (5, 8), 4: (4, 6, 8), 3: (3, 5, 8)}


@dataclass(frozen=True)
class Row:
    """One way to get models of few bits.

    Attributes:
        title: What tables call it.
        chains: The chain that shows each level.
        options: Options of `tflnest.convert`.
        budget: Whether the subject's budget for the base level applies.
        uses_data: Whether an int8 source is fitted to calibration data.
        dedicated: Method of `dedicated`, where nothing nests and nothing is converted.
    """

    title: str
    chains: Mapping[int, Chain]
    options: Mapping[str, Any] = field(default_factory=dict)
    budget: bool = False
    uses_data: bool = True
    dedicated: str = ""


def variant(preset: str, **settings: Any) -> Recipe:
    """A preset with other settings."""
    return replace(load_recipe(preset), **settings)


def _ablation() -> dict[str, Row]:
    """One thing more in each row, from bare truncation to all that there is; then what each thing is worth alone."""
    bare = {"bias": Bias.SOURCE}
    plain = {"tuned": False}
    flat = {"base_widths": BaseWidths.UNIFORM, **plain}
    scale, joint = {"scale": Scale.CORRECTED}, {"rounding": "joint"}
    recipes = {
        "bare": ("truncated codes alone", variant("uniform", **bare), False),
        "bias": ("bias", variant("uniform"), False),
        "bias-scale": ("bias, scale", variant("uniform", **scale), False),
        "flat": ("bias, flat layers", variant("default", **flat), False),
        "flat-scale": ("bias, scale, flat layers", variant("default", **flat, **scale), False),
        "mixed-bias": ("bias, flat layers, mixed widths", variant("default", **plain), True),
        "mixed-scale": (
            "bias, scale, flat layers, mixed widths",
            variant("default", **scale, **plain),
            True,
        ),
        "mixed-tuned": ("bias, flat layers, mixed widths, tuned", variant("default"), True),
        "joint-uniform": ("joint, bias", variant("uniform", **joint), False),
        "joint-flat": (
            "joint, bias, scale, flat layers",
            variant("default", **flat, **scale, **joint),
            False,
        ),
        "joint": ("joint, bias, flat layers, mixed widths", variant("default", **joint), True),
        "joint-scale": (
            "joint, bias, scale, flat layers, mixed widths",
            variant("default", **scale, **joint),
            True,
        ),
    }
    return {
        key: Row(title, CHAINS, {"recipe": recipe}, budget)
        for key, (title, recipe, budget) in recipes.items()
    }


#: What the tables show.
MAIN = {
    "nestquant": Row("NestQuant", PAIRS, {"recipe": "nestquant"}, uses_data=False),
    "dedicated-nearest": Row("dedicated, nearest, own grid", ALONE, uses_data=False, dedicated="nearest"),
    "dedicated-squant": Row("dedicated, SQuant, own grid", ALONE, uses_data=False, dedicated="squant"),
    "dedicated-best": Row("dedicated, our best", ALONE, {"keep": "base"}, budget=True),
    "no-data": Row("ours without data", CHAINS, budget=True, uses_data=False),
    "uniform": Row("ours, uniform widths, all nested", CHAINS, {"recipe": "uniform", "keep": "full-bit"}),
    "mixed": Row("ours, keep full-bit", CHAINS, {"keep": "full-bit"}, budget=True),
    "base": Row("ours, keep base", CHAINS, {"keep": "base"}, budget=True),
}

#: What the ablation shows; "separate" rounds each level for itself, one file per level.
ABLATION = {
    **_ablation(),
    "separate": replace(MAIN["dedicated-best"], title="the last, each level by itself"),
}

#: Rows that are measured where they are asked for by name.
OTHERS = {
    "widths-uniform-noise": Row(
        "uniform widths, no data",
        CHAINS,
        {"recipe": variant("default", base_widths=BaseWidths.UNIFORM)},
        uses_data=False,
    ),
    "widths-noise": Row("widths by noise, no data", CHAINS, uses_data=False),
    "widths-uniform-data": Row(
        "uniform widths, data",
        CHAINS,
        {"recipe": variant("default", base_widths=BaseWidths.UNIFORM, tuned=False)},
    ),
    "widths-data": Row("widths by data", CHAINS, {"recipe": variant("default", tuned=False)}),
    "nearest": Row("nearest, compensated", PAIRS, {"recipe": "compensated"}, uses_data=False),
    "squant-alone": Row("dedicated, SQuant, int8 grid", ALONE, {"recipe": "nestquant"}, uses_data=False),
    "hierarchical": Row(
        "ours, hierarchical flips", CHAINS, {"recipe": "uniform", "rounding": "hierarchical"}, uses_data=False
    ),
}

ROWS = {**MAIN, **ABLATION, **OTHERS}

#: Rows of int8 sources alone: float ones can't do without data.
WITHOUT_DATA = ("no-data", "widths-uniform-noise", "widths-noise", "hierarchical")

#: What `--quick` measures.
QUICK = ("nestquant", "no-data", "mixed", "base")
