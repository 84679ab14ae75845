"""Trainings from files: a TOML configuration, or a Python script with a function `job`."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from converters.recipe import Recipe, load_recipe, presets
from converters.settings import check_keys, load_toml, read_settings, read_value
from converters.training.job import LEVELS, Augmentation, OptimizerOptions, TrainingJob, default_options
from converters.training.options import TrainingOptions
from tflnest.dataset import Dataset, load_dataset
from tflnest.errors import TflnestError, UsageError

#: What a script defines.
FUNCTION = "job"

_NUMBERS = ("epochs", "batch", "seed", "devices")
_TABLES = {"optimizer": OptimizerOptions, "augmentation": Augmentation}
_FILES = ("training", "validation", "calibration")
_KEYS = ("model", "output", "start", "recipe", "levels", "data", "options", *_NUMBERS, *_TABLES)


def read_job(path: str | Path) -> TrainingJob:
    """Read what is to be trained.

    Paths in a configuration are relative to its folder. A script defines a function `job` that takes nothing and
    returns a `TrainingJob`; it runs with the rights of the caller.

    Args:
        path: A `.toml` or `.py` file.

    Raises:
        UsageError: It is neither, a key or value makes no sense, or the script has no such function or fails.
        FormatError: It, or a file that it names, cannot be read.
    """
    path = Path(path)
    if path.suffix == ".toml":
        return _from_configuration(load_toml(path), path)
    if path.suffix == ".py":
        return _from_script(path)
    raise UsageError(
        f"{path}: is no configuration (.toml) and no script (.py)",
        "a configuration names the model, the data and the output; tflnest train --help has one",
    )


def _from_configuration(content: Mapping[str, Any], path: Path) -> TrainingJob:
    check_keys(content, _KEYS, str(path))
    folder = path.parent
    values: dict[str, Any] = {
        name: read_value(content[name], int, f"{name} of {path}") for name in _NUMBERS if name in content
    }
    values |= {
        name: read_settings(kind, content[name], name) for name, kind in _TABLES.items() if name in content
    }
    given = content.get("options", {})
    options = read_settings(TrainingOptions, given, "options")
    values["options"] = replace(default_options(), **{name: getattr(options, name) for name in given})
    for name in ("model", "output"):
        if name not in content:
            raise UsageError(f"{path} has no {name}", f'write {name} = "..." at its beginning')
        values[name] = folder / read_value(content[name], str, f"{name} of {path}")
    if "start" in content:
        values["start"] = folder / read_value(content["start"], str, f"start of {path}")
    data = _data(content.get("data"), path)
    values |= {"data": data.pop("training"), **data}
    return TrainingJob(recipe=_recipe(content, path), **values)


def _data(table: Any, path: Path) -> dict[str, Dataset]:
    """The samples by name of their file's key."""
    if not isinstance(table, Mapping) or "training" not in table:
        raise UsageError(
            f"{path} names no training data", 'write [data] and below it training = "samples.npz"'
        )
    check_keys(table, _FILES, "data")
    return {
        name: load_dataset(path.parent / read_value(file, str, f"{name} of data"))
        for name, file in table.items()
    }


def _recipe(content: Mapping[str, Any], path: Path) -> Recipe:
    name = content.get("recipe")
    if name is not None:
        name = read_value(name, str, f"recipe of {path}")
        recipe = load_recipe(name if name in presets() else path.parent / name)
    else:
        recipe = load_recipe(None).with_options(levels=LEVELS)
    levels = content.get("levels")
    if levels is None:
        return recipe
    if not isinstance(levels, list):
        raise UsageError(
            f"levels of {path} is {levels!r}, a list was expected", "write for example [2, 4, 8]"
        )
    return recipe.with_options(levels=[read_value(level, int, f"a level of {path}") for level in levels])


def _from_script(path: Path) -> TrainingJob:
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent.resolve()))  # as Python does it for a script
    try:
        spec.loader.exec_module(module)
        function = getattr(module, FUNCTION, None)
        job = function() if callable(function) else None
    except (TflnestError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise UsageError(f"{path} failed: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(path.parent.resolve()))
    if not isinstance(job, TrainingJob):
        raise UsageError(
            f"{path} has no function {FUNCTION}() that returns a tflnest.TrainingJob",
            "def job(): return tflnest.TrainingJob(model=..., data=..., output=...)",
        )
    return job
