"""The examples in docs/tflm.md compile, and run, as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.controllers import controlled
from tests.shared import ROOT
from tests.tflnest.tflm import tree
from tests.tflnest.tflm.component import HERE, Toolset, lay_out
from tests.tflnest.tflm.tree import Tree
from tflnest.model import Model

DOCUMENT = ROOT / "docs" / "tflm.md"
FRAME = """
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
{include}
extern const unsigned char model_data[];
extern const size_t model_size;
extern unsigned char arena[65536];
extern const void *image;
extern const size_t image_size;

#ifdef TFLNEST_TEST_MICRO_COMMON_H
using namespace tflite;
using namespace tflite::micro;
#else
using namespace tflite;
#endif

void Example(const Model *model)
{{
    MicroMutableOpResolver<10> resolver;
{first}
    MicroInterpreter interpreter(model, resolver, arena, sizeof arena);
    interpreter.AllocateTensors();
{rest}
}}
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)


def program() -> str:
    first, *rest = blocks("cpp")
    include, lines = first.split("\n", 1)
    rest = [block for block in rest if "resolver" not in block]
    assert len(rest) == 2
    return FRAME.format(include=include, first=lines, rest="\n".join(rest))


def custom_program() -> str:
    first, *others = blocks("cpp")
    (registrations,) = [block for block in others if "resolver" in block]
    return FRAME.format(include=first.split("\n", 1)[0], first=registrations, rest="")


@pytest.mark.parametrize("text", [program, custom_program])
def test_examples_compile(text: object, tmp_path: Path) -> None:
    tools = Toolset()
    tools.require()
    source = tmp_path / "example.cc"
    source.write_text(text())  # type: ignore[operator]
    component = lay_out(tmp_path / "component")
    flags = ("-std=c++17", "-fno-exceptions", "-fno-rtti", "-Wall", "-Wextra", "-Werror")
    tools.compile([source], (component, HERE / "wheel"), tmp_path / "made", cxx_flags=flags)
    if os.environ.get("TFLM_ROOT"):
        real = Tree(tree.root(), tools)
        tools = Toolset(flags=(*tools.flags, *real.flags))
        tools.compile([source], (component,), tmp_path / "real", (), (*flags, "-w"), real.include)


def run_python(code: str, folder: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, env=environment)


def test_the_first_python_example_copies_the_component(tmp_path: Path) -> None:
    run_python(blocks("python")[0], tmp_path)
    assert (tmp_path / "component/tflnest_tflm.cc").is_file()
    assert (tmp_path / "component/tflnest/tflnest_types.h").is_file()


def test_the_second_python_example_leaves_the_controller_out(tmp_path: Path) -> None:
    (tmp_path / "nested.tflite").write_bytes(controlled().to_bytes())
    run_python(blocks("python")[1], tmp_path)
    assert Model.load(tmp_path / "static.tflite").controller is None


def test_the_message_in_the_document_is_one_of_the_components(tmp_path: Path) -> None:
    (message,) = blocks("text")
    head, problem = message.strip().rsplit(": ", 1)
    sources = "".join(
        path.read_text() for path in lay_out(tmp_path).iterdir() if path.suffix in (".c", ".cc")
    )
    assert f'"{problem}"' in sources
    assert re.fullmatch(r"tflnest: TFLNEST_\w+ with output tensor \d+", head)
    assert "tflnest: %s with output tensor %d: %s" in sources
