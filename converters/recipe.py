"""Recipes: which tensors nest, in which levels, by which method.

A recipe is data: TOML in a file, a named preset, or a `Recipe` object. Its rules are tried in order and the
first one that matches a filter decides; what a rule leaves open comes from the recipe's own settings. The
recipe that was used is stored in the nested file.

    levels = [4, 6, 8]
    extends = "default"        # append the rules of a preset

    [[rules]]
    scope = "block_[12]/.*"    # regular expression, searched in the filter's name
    levels = [6, 8]

    [[rules]]
    scope = "classifier"
    flat = true
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from converters import rounding as rounding_methods
from converters.settings import check_keys
from tflnest.errors import FormatError, UsageError
from tflnest.files import read_file
from tflnest.nested import STOCK_OPTIONS
from tflnest.nesting import Nesting, Scheme, check_levels

Choice = TypeVar("Choice", bound=StrEnum)

DEFAULT_PRESET = "default"

#: Keys of the two ways to give a budget.
BUDGETS = ("base_bits", "base_bytes")

#: Chains that start higher keep uniform base widths unless a budget is given.
MIXED_UP_TO = 6


#: Chains that start lower are rounded jointly by default: truncation loses several points there.
TRUNCATED_FROM = 4


class Bias(StrEnum):
    """Where the biases of part-bit levels come from."""

    SOURCE = "source"
    CORRECTED = "corrected"


class Scale(StrEnum):
    """Where the filter scales of part-bit levels come from."""

    SOURCE = "source"
    CORRECTED = "corrected"


class Keep(StrEnum):
    """What a conversion holds on to: the exact full-bit level, or the accuracy of the lowest one."""

    FULL_BIT = "full-bit"
    BASE = "base"


class BaseWidths(StrEnum):
    """How the width of each filter at the lowest level is chosen."""

    UNIFORM = "uniform"
    MIXED = "mixed"


@dataclass(frozen=True)
class Candidate:
    """A filter that could be nested.

    Attributes:
        name: Name of the filter tensor.
        operator: Name of its operator.
        bytes: Size of the int8 filter.
        first_convolution: Whether it belongs to the first convolution that the model's input goes through.
    """

    name: str
    operator: str
    bytes: int
    first_convolution: bool


@dataclass(frozen=True)
class Rule:
    """One rule: conditions, all of which must hold, and what then applies.

    Attributes:
        scope: Regular expression, searched in the filter's name.
        operator: Name of the operator.
        smaller_than: Bytes; holds for filters with fewer.
        first_convolution: Holds for the first convolution only.
        flat: Keep the filter as stock int8.
        levels: Chain for these filters.
        scheme: Scheme for these filters.
        rounding: Rounding method for these filters.
    """

    scope: str | None = None
    operator: str | None = None
    smaller_than: int | None = None
    first_convolution: bool = False
    flat: bool = False
    levels: tuple[int, ...] | None = None
    scheme: Scheme | None = None
    rounding: str | None = None

    def matches(self, candidate: Candidate) -> bool:
        """Whether all conditions hold."""
        return (
            (self.scope is None or re.search(self.scope, candidate.name) is not None)
            and (self.operator is None or self.operator == candidate.operator)
            and (self.smaller_than is None or candidate.bytes < self.smaller_than)
            and (not self.first_convolution or candidate.first_convolution)
        )

    def describe(self) -> str:
        """The conditions in words, for reports."""
        parts = []
        if self.scope is not None:
            parts.append(f"scope {self.scope!r}")
        if self.operator is not None:
            parts.append(f"operator {self.operator}")
        if self.smaller_than is not None:
            parts.append(f"smaller than {self.smaller_than} bytes")
        if self.first_convolution:
            parts.append("first convolution")
        return " and ".join(parts) or "every filter"


@dataclass(frozen=True)
class Decision:
    """What a recipe says of one filter.

    Attributes:
        nesting: How to nest it; None to keep it flat.
        rounding: Name of the rounding method.
        reason: The rule that decided, in words.
        adjustable: Whether the budget may give the filter another base width: no rule has named its chain.
    """

    nesting: Nesting | None
    rounding: str
    reason: str
    adjustable: bool = False


@dataclass(frozen=True)
class Recipe:
    """A complete recipe.

    Attributes:
        levels: Levels of the model and default chain of its filters.
        scheme: Default scheme.
        rounding: Default rounding method; "" becomes the scheme's own.
        bias: Where the biases of part-bit levels come from.
        scale: Where the filter scales of part-bit levels come from; "corrected" only with corrected biases.
        base_widths: "uniform", or "mixed": by sensitivity, within the budget. Without a budget of its own a
            mixed recipe takes the bits of a uniform one, and mixes only where the chain starts at
            `MIXED_UP_TO` bits or fewer: above, there is little to gain.
        base_bits: Budget: mean bits per weight of all filters at the lowest level, flat ones included.
        base_bytes: Budget: bytes of all filters at the lowest level; not together with `base_bits`.
        tuned: Whether the biases of part-bit levels are tuned by the model's outputs on calibration data, where no
            filter is rounded by data; only with corrected biases.
        rules: First match wins.
    """

    levels: tuple[int, ...] = (4, 6, 8)
    scheme: Scheme = Scheme.BUCKET
    rounding: str = ""
    bias: Bias = Bias.CORRECTED
    scale: Scale = Scale.SOURCE
    base_widths: BaseWidths = BaseWidths.UNIFORM
    base_bits: float | None = None
    base_bytes: int | None = None
    tuned: bool = False
    rules: tuple[Rule, ...] = ()

    @property
    def mixes_widths(self) -> bool:
        """Whether base widths are chosen by sensitivity."""
        if self.base_bits is not None or self.base_bytes is not None:
            return True
        return self.base_widths is BaseWidths.MIXED and self.levels[0] <= MIXED_UP_TO

    def __post_init__(self) -> None:
        if self.base_bits is not None and self.base_bytes is not None:
            raise UsageError("base_bits and base_bytes are both given", "one of them is the budget")
        object.__setattr__(self, "levels", check_levels(self.levels))
        for rule in (Rule(scheme=self.scheme, rounding=self.rounding), *self.rules):
            if not rule.flat:
                rounding_methods.check(self._rounding(rule), rule.scheme or self.scheme)
        object.__setattr__(self, "rounding", self._rounding(Rule()))
        self._check_bias()

    def _check_bias(self) -> None:
        """Scales and data-driven rounding leave the mean to the bias."""
        if self.bias is not Bias.SOURCE:
            return
        if self.scale is not Scale.SOURCE:
            raise UsageError('scale is "corrected" and bias is "source"', 'write bias = "corrected"')
        if self.tuned:
            raise UsageError('tuned is true and bias is "source"', 'write bias = "corrected"')
        if self.needs_data:
            raise UsageError(
                'a rounding method that needs data is used, and bias is "source"', 'write bias = "corrected"'
            )

    @property
    def needs_data(self) -> bool:
        """Whether some filter is rounded by what it sees."""
        used = (Rule(), *(rule for rule in self.rules if not rule.flat))
        return any(rounding_methods.needs_data(self._rounding(rule)) for rule in used)

    def _rounding(self, rule: Rule) -> str:
        scheme = rule.scheme or self.scheme
        if rule.rounding:
            return rule.rounding
        inherited = self.rounding if scheme is self.scheme else ""
        return inherited or rounding_methods.default(scheme)

    def decide(self, candidate: Candidate) -> Decision:
        """What to do with a filter."""
        for rule in self.rules:
            if rule.matches(candidate):
                if rule.flat:
                    return Decision(None, "", f"recipe: {rule.describe()} stays flat")
                nesting = Nesting(rule.levels or self.levels, rule.scheme or self.scheme)
                reason = f"recipe: {rule.describe()}"
                return Decision(nesting, self._rounding(rule), reason, adjustable=rule.levels is None)
        nesting = Nesting(self.levels, self.scheme)
        return Decision(nesting, self._rounding(Rule()), "recipe: default", adjustable=True)

    def with_options(
        self,
        levels: Sequence[int] | None = None,
        scheme: Scheme | str | None = None,
        rounding: str | None = None,
        base_bits: float | None = None,
        base_bytes: int | None = None,
        keep: Keep | str | None = None,
    ) -> Recipe:
        """The recipe with some settings replaced, as the command line's options do.

        Raises:
            UsageError: The settings make no sense together.
        """
        changed = self
        if base_bits is not None or base_bytes is not None:
            changed = replace(changed, base_bits=base_bits, base_bytes=base_bytes)
        if scheme is not None:
            new_scheme = _choice(Scheme, scheme, "the scheme")
            # A rounding method that was meant for another scheme does not carry over.
            kept = self.rounding if new_scheme is self.scheme else ""
            changed = replace(changed, scheme=new_scheme, rounding=rounding or kept)
        elif rounding is not None:
            changed = replace(changed, rounding=rounding)
        if levels is not None:
            changed = replace(changed, levels=check_levels(levels))
        return changed if keep is None else changed._keeping(keep, rounding)

    def best_keep(self, has_data: bool) -> Keep:
        """What to hold on to where nobody says.

        The full-bit level, while a base of truncated codes is accurate: from `TRUNCATED_FROM` bits up, and without
        data, which joint rounding needs.

        Args:
            has_data: Whether there are calibration data.
        """
        low = self.scheme is Scheme.BUCKET and self.levels[0] < TRUNCATED_FROM
        return Keep.BASE if low and has_data else Keep.FULL_BIT

    def _keeping(self, keep: Keep | str, rounding: str | None) -> Recipe:
        """The settings that stand behind `keep`."""
        if rounding is not None:
            raise UsageError(
                "keep and rounding are both given", "keep chooses the rounding: leave one of them out"
            )
        if _choice(Keep, keep, "keep") is Keep.FULL_BIT:
            return replace(self, rounding="truncate", scale=Scale.SOURCE)
        return replace(self, rounding="joint", scale=Scale.CORRECTED)

    def to_toml(self) -> str:
        """Canonical TOML text; `parse` gives an equal recipe back."""
        lines = [
            f"levels = {list(self.levels)}",
            f'scheme = "{self.scheme}"',
            f'rounding = "{self.rounding}"',
            f'bias = "{self.bias}"',
        ]
        if self.scale is not Scale.SOURCE:
            lines.append(f'scale = "{self.scale}"')
        if self.base_widths is not BaseWidths.UNIFORM:
            lines.append(f'base_widths = "{self.base_widths}"')
        if self.tuned:
            lines.append("tuned = true")
        lines += [
            f"{name} = {_toml(getattr(self, name))}" for name in BUDGETS if getattr(self, name) is not None
        ]
        for rule in self.rules:
            lines.append("[[rules]]")
            for item in fields(rule):
                value = getattr(rule, item.name)
                if value is not None and value is not False:
                    lines.append(f"{item.name} = {_toml(value)}")
        return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if value is True:
        return "true"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, tuple):
        return str(list(value))
    escaped = "".join(
        f"\\u{ord(letter):04x}"
        if ord(letter) < 32 or ord(letter) == 127
        else {"\\": "\\\\", '"': '\\"'}.get(letter, letter)
        for letter in str(value)
    )
    return f'"{escaped}"'


def presets() -> tuple[str, ...]:
    """Names of the presets that come with tflnest."""
    folder = resources.files("converters") / "presets"
    return tuple(
        sorted(item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml"))
    )


def load_recipe(name_or_path: str | Path | None = None) -> Recipe:
    """Load a preset by name or a recipe file by path; None gives the default preset.

    Raises:
        UsageError: There is no such preset or file, or the recipe makes no sense.
    """
    name = str(name_or_path) if name_or_path is not None else DEFAULT_PRESET
    if name in presets():
        text = (resources.files("converters") / "presets" / f"{name}.toml").read_text(encoding="utf-8")
        return parse_recipe(text, f"preset {name}")
    path = Path(name)
    if path.suffix != ".toml" and not path.exists():
        close = difflib.get_close_matches(name, presets(), n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise UsageError(
            f"there is no recipe {name!r}", f"{hint}presets are {', '.join(presets())}; a file ends in .toml"
        )
    try:
        text = read_file(path).decode("utf-8")
    except FormatError as error:
        raise UsageError(error.message, error.hint) from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: a recipe is UTF-8 text: {error}") from None
    return parse_recipe(text, str(path))


def parse_recipe(text: str, name: str = "recipe") -> Recipe:
    """Read a recipe from TOML text.

    Args:
        text: The TOML.
        name: How messages call it.

    Raises:
        UsageError: It is no TOML, has an unknown key, or a value that makes no sense.
    """
    try:
        content = tomllib.loads(text)
        rules = _rules(content.pop("rules", []))
        base = _base(content.pop("extends")) if "extends" in content else Recipe()
        settings = _settings(
            content,
            {"levels", "scheme", "rounding", "bias", "scale", "base_widths", "tuned", *BUDGETS},
            "the recipe",
        )
        if "scheme" in settings and "rounding" not in settings and settings["scheme"] is not base.scheme:
            settings["rounding"] = ""
        return replace(base, rules=(*rules, *base.rules), **settings)
    except UsageError as error:
        raise UsageError(f"{name}: {error.message}", error.hint) from None
    except (ValueError, RecursionError) as error:  # TOMLDecodeError is a ValueError; so is a number too long
        raise UsageError(f"{name}: not TOML: {error}") from None


def _base(value: Any) -> Recipe:
    if value not in presets():
        raise UsageError(f"extends is {value!r}, which is no preset", f"presets are {', '.join(presets())}")
    return load_recipe(value)


def _rules(value: Any) -> tuple[Rule, ...]:
    if not isinstance(value, list):
        raise UsageError("rules is no list of tables", "write [[rules]] above each rule")
    return tuple(_rule(item, f"rule {number}") for number, item in enumerate(value, 1))


def _rule(item: Any, where: str) -> Rule:
    if not isinstance(item, Mapping):
        raise UsageError(f"{where} is no table", "write [[rules]] above it")
    rule = Rule(**_settings(item, {entry.name for entry in fields(Rule)}, where))
    if rule.flat and (rule.levels or rule.scheme or rule.rounding):
        raise UsageError(f"{where} is flat and has levels, a scheme or a rounding", "remove one of them")
    return rule


def _settings(content: Mapping[str, Any], allowed: set[str], where: str) -> dict[str, Any]:
    check_keys(content, allowed, where)
    return {key: _PARSERS[key](value, f"{key} of {where}") for key, value in content.items()}


def _levels(value: Any, where: str) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise UsageError(
            f"{where} is {value!r}, a list of bit-widths was expected", "write for example [4, 6, 8]"
        )
    return check_levels(value)


def _choice(kind: type[Choice], value: Any, where: str) -> Choice:
    try:
        return kind(value)
    except ValueError:
        raise UsageError(f"{where} is {value!r}", f"choices are {', '.join(kind)}") from None


def _bits(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= 8:
        raise UsageError(f"{where} is {value!r}, a number of bits from 1 to 8 was expected")
    return float(value)


def _rounding(value: Any, where: str) -> str:
    if value not in rounding_methods.names():
        raise UsageError(f"{where} is {value!r}", f"methods are {', '.join(rounding_methods.names())}")
    return str(value)


def _scope(value: Any, where: str) -> str:
    try:
        re.compile(value)
    except (re.error, TypeError, OverflowError, RecursionError) as error:
        raise UsageError(f"{where} is {value!r}, which is no regular expression: {error}") from None
    return str(value)


def _operator(value: Any, where: str) -> str:
    if not isinstance(value, str) or value not in STOCK_OPTIONS:
        raise UsageError(f"{where} is {value!r}", f"operators that nest are {', '.join(STOCK_OPTIONS)}")
    return str(value)


def _flag(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise UsageError(f"{where} is {value!r}, true or false was expected")
    return value


def _size(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise UsageError(f"{where} is {value!r}, a number of bytes was expected")
    return value


_PARSERS: dict[str, Callable[[Any, str], Any]] = {
    "levels": _levels,
    "scheme": partial(_choice, Scheme),
    "rounding": _rounding,
    "bias": partial(_choice, Bias),
    "scale": partial(_choice, Scale),
    "base_widths": partial(_choice, BaseWidths),
    "base_bits": _bits,
    "base_bytes": _size,
    "scope": _scope,
    "operator": _operator,
    "smaller_than": _size,
    "first_convolution": _flag,
    "flat": _flag,
    "tuned": _flag,
}
