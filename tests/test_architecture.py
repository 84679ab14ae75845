"""Dependencies go one way, as the design draws them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("tflnest", "converters", "firmware_sim")

#: What each package may import from the project.
ALLOWED = {
    "tflnest": {"tflnest"},
    "tflnest.cli": {"tflnest", "converters", "firmware_sim"},
    "converters": {"converters", "tflnest"},
    "firmware_sim": {"firmware_sim", "tflnest"},
}

#: Modules that nothing below them may import: each line's left side knows nothing of its right side.
LAYERS = (
    "tflnest.errors",
    "tflnest.nesting",
    "tflnest.packing",
    "tflnest.fixedpoint",
    "tflnest.graph",
    "tflnest.container",
    "tflnest.nested",
    "tflnest.device.structures",
    "tflnest.device.registry",
    "tflnest.native.library",
    "tflnest.native.engine",
    "tflnest.model",
    "tflnest.interpreter",
    "tflnest.runner",
    "tflnest.evaluation",
)


#: Modules that are written on Keras; all others import them, if at all, inside functions.
ON_KERAS = {
    f"converters.training.{name}"
    for name in (
        "batches",
        "classifier",
        "controller",
        "controller_export",
        "dynamic",
        "exporting",
        "integers",
        "network",
        "operators",
        "quantizers",
        "running",
        "starting",
        "stem",
        "tabulation",
    )
}


def modules() -> Iterator[tuple[str, Path]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


MODULES = dict(modules())


@pytest.mark.parametrize("name", MODULES)
def test_packages_depend_in_one_direction(name: str) -> None:
    home = (
        "tflnest.cli" if name.startswith("tflnest.cli") or name == "tflnest.__main__" else name.split(".")[0]
    )
    used = {item.split(".")[0] for item in imports(MODULES[name])} & set(PACKAGES)
    assert used <= ALLOWED[home], f"{name} imports {sorted(used - ALLOWED[home])}"


@pytest.mark.parametrize("name", [name for name in MODULES if not name.startswith("tflnest.cli")])
def test_nothing_imports_the_command_line(name: str) -> None:
    if name == "tflnest.__main__":
        return
    offending = {item for item in imports(MODULES[name]) if item.startswith("tflnest.cli")}
    assert not offending, f"{name} imports {sorted(offending)}"


@pytest.mark.parametrize("position", range(len(LAYERS)))
def test_core_modules_know_nothing_of_those_above(position: int) -> None:
    above = set(LAYERS[position + 1 :])
    assert not imports(MODULES[LAYERS[position]]) & above


@pytest.mark.parametrize("name", MODULES)
def test_optional_packages_are_not_imported_at_module_level(name: str) -> None:
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    roots, modules_used = set(), set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            roots.update(alias.name.split(".")[0] for alias in node.names)
            modules_used.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            roots.add(node.module.split(".")[0])
            modules_used.add(node.module)
    if name in ON_KERAS:
        roots.discard("keras")
    else:
        assert not modules_used & ON_KERAS
    assert not roots & {
        "tensorflow",
        "keras",
        "serial",
        "cobs",
        "matplotlib",
        "ai_edge_litert",
        "tflite_micro",
    }


@pytest.mark.parametrize("name", [name for name in MODULES if not name.startswith("tflnest.cli")])
def test_only_the_command_line_prints_or_exits(name: str) -> None:
    calls = {
        ast.unparse(node.func)
        for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    }
    assert not calls & {"print", "sys.exit", "exit", "quit", "os._exit", "input"}, name


def test_everything_public_is_reachable_from_the_facade() -> None:
    import tflnest

    for name in tflnest.__all__:
        assert getattr(tflnest, name) is not None, name
