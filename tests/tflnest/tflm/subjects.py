"""The public models as the tree of TFLM runs them: nested in some ways, with a script for each."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

from converters.conversion import convert
from tests.models import everything, nested
from tests.shared import int8_path
from tests.tflnest.tflm.script import LEVEL, Script
from tflnest.model import Model

LEVELS = (4, 6, 8)

#: Every filter with the biases of the int8 model for all levels, in both schemes; and as `tflnest convert` does it.
CONVERSIONS: dict[str, Callable[[Path], Model]] = {
    "uniform": lambda path: nested(Model.load(path), everything(LEVELS)),
    "compensated": lambda path: nested(Model.load(path), everything(LEVELS, "compensated")),
    "default": lambda path: convert(path, levels=LEVELS).model,
}
#: Takes as long as all others together: it runs less.
LARGEST = "mobilenet_v2_quantized_1x3x224x224"


@cache
def subject(name: str, conversion: str) -> tuple[Script, list[bytes]]:
    """A script, and the outputs that it must give; skips where the model is not there."""
    path = int8_path(name)
    script = Script(path.read_bytes(), CONVERSIONS[conversion](path).to_bytes())
    if name == LARGEST:
        script.switch((8, 4, 6))
    else:
        script.switch((8, 4, 6, 8))
        script.set_level(9, LEVEL)
        script.turn_pages()
    return script, script.expected()
