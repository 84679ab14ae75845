"""How versions of TFLM take the decoders of applications, and what is said where they do not."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.shared import ROOT
from tests.tflnest.tflm.component import CXX_FLAGS, HERE, Toolset, lay_out
from tests.tflnest.tflm.test_fuzz import DECODING

#: Of an application: what it would pass itself, and the one line.
APPLICATION = """
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tflnest_tflm_decode.h"

#ifdef OWN
constexpr auto registration = tflnest::DecodeRegistration();
static_assert(registration.type == 206, "of applications");
static_assert(sizeof registration.OWN == sizeof(void *), "a function");
#endif

int Register(tflite::micro::MicroInterpreter &interpreter)
{
    return static_cast<int>(tflnest::RegisterDecode(interpreter));
}
"""


@pytest.fixture(scope="module")
def component(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lay_out(tmp_path_factory.mktemp("component"))


@pytest.fixture
def application(tmp_path: Path) -> Path:
    path = tmp_path / "application.cc"
    path.write_text(APPLICATION)
    return path


@pytest.mark.parametrize(("hook", "member"), [(1, "create_state"), (2, "create_state"), (3, "func")])
@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_every_form_of_the_registration_is_taken(
    hook: int, member: str, compiler: str, application: Path, component: Path, tmp_path: Path
) -> None:
    tools = Toolset(cxx=compiler, flags=(f"-DTFLNEST_TEST_HOOK={hook}", f"-DOWN={member}"))
    tools.require()
    assert tools.compile([application], (component, HERE / "wheel"), tmp_path / "made")


def refused(application: Path, component: Path, headers: Path, tmp_path: Path) -> str:
    """The component compiles, and the application does not; returns what the compiler says."""
    tools = Toolset(flags=("-DTFLNEST_TEST_HOOK=0",))
    tools.require()
    tools.compile([component / "tflnest_tflm_decode.cc"], (component, headers), tmp_path / "made")
    folders = [f"-I{component}", f"-I{headers}"]
    command = [
        "g++",
        *CXX_FLAGS,
        *tools.flags,
        *folders,
        "-c",
        str(application),
        "-o",
        str(tmp_path / "no.o"),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode != 0
    return result.stderr


def test_a_tflm_without_such_decoders_is_told(application: Path, component: Path, tmp_path: Path) -> None:
    said = refused(application, component, HERE / "wheel", tmp_path)
    assert (
        "this TensorFlow Lite Micro does not let applications decode filters: take one of October 2026"
        in said
    )


def test_a_tflm_without_decode_is_told(application: Path, component: Path, tmp_path: Path) -> None:
    shutil.copytree(HERE / "wheel" / "tensorflow", tmp_path / "old" / "tensorflow")
    shutil.rmtree(tmp_path / "old/tensorflow/lite/micro/kernels")
    said = refused(application, component, tmp_path / "old", tmp_path)
    assert (
        "this TensorFlow Lite Micro does not let applications decode filters: take one of October 2026"
        in said
    )


#: What stands around the example in docs/export.md.
FRAME = """
#include "tensorflow/lite/micro/micro_interpreter.h"
{include}
extern const unsigned char model_data[];
extern const size_t model_size;

using namespace tflite::micro;

void Example(MicroMutableOpResolver<10> &resolver, MicroInterpreter &interpreter)
{{
{lines}
}}
"""


def test_the_example_in_the_document_compiles(component: Path, tmp_path: Path) -> None:
    tools = Toolset()
    tools.require()
    document = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```cpp\n(.*?)```", document, re.DOTALL)
    (example,) = [block for block in blocks if "tflnest_tflm_decode.h" in block]
    include, lines = example.split("\n", 1)
    source = tmp_path / "example.cc"
    source.write_text(FRAME.format(include=include, lines=lines))
    assert tools.compile([source], (component, HERE / "wheel"), tmp_path / "made")
    section = document[document.index(example) :]
    assert set(re.findall(r"`(tflnest_\w+\.cc?)`", section)) == set(DECODING)
