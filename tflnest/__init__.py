"""tflnest: one `.tflite` file, several integer precisions.

Everything public is reachable as `tflnest.<name>` and loaded when it is first used, so that importing
tflnest costs nothing and needs no optional dependency.
"""

from __future__ import annotations

import importlib
from typing import Any

from tflnest.version import __version__

#: Where each public name lives.
_HOMES = {
    "Augmentation": "converters.training",
    "ControllerOptions": "converters.training",
    "Dataset": "tflnest.dataset",
    "Interpreter": "tflnest.interpreter",
    "Model": "tflnest.model",
    "Nesting": "tflnest.nesting",
    "OptimizerOptions": "converters.training",
    "Recipe": "converters.recipe",
    "Scheme": "tflnest.nesting",
    "TflnestError": "tflnest.errors",
    "TrainingJob": "converters.training",
    "TrainingOptions": "converters.training",
    "add_controller": "converters.training",
    "compare": "tflnest.comparison",
    "connect": "tflnest.bridge.remote",
    "convert": "converters.conversion",
    "delegate_path": "tflnest.plugin.delegate",
    "evaluate": "tflnest.evaluation",
    "export_component": "firmware_sim.component.exporting",
    "export_int4": "converters.exporting.int4",
    "export_lookup_tables": "converters.exporting.lookup_table",
    "export_planes": "converters.exporting.planes",
    "generate_firmware": "firmware_sim.firmware.generation",
    "get_delegate_levels": "tflnest.plugin.delegate",
    "inspect": "firmware_sim.inspection",
    "load": "tflnest.model",
    "load_dataset": "tflnest.dataset",
    "load_delegate": "tflnest.plugin.delegate",
    "load_recipe": "converters.recipe",
    "materialize": "tflnest.materialization",
    "nest_for_training": "converters.training",
    "search": "converters.search",
    "set_delegate_level": "tflnest.plugin.delegate",
    "simulate": "firmware_sim.simulation",
    "stock_interpreter": "tflnest.plugin.delegate",
    "train": "converters.training",
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    """Load a public name from its home."""
    if name not in _HOMES:
        raise AttributeError(f"module 'tflnest' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
