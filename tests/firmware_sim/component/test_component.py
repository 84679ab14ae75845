"""Components: what the folders hold, and that they build and give the bits of the reference interpreter."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from firmware_sim.board import Board
from firmware_sim.component.contents import INPUTS, TEMPLATES, resolver_method
from firmware_sim.component.exporting import component_name, export_component
from firmware_sim.component.targets import Target
from firmware_sim.emulator import Emulator
from firmware_sim.firmware.selftest import SEED, expected_crc32
from firmware_sim.toolchain import Toolchain
from tests.controllers import controlled, narrow_levels
from tests.firmware_sim.component.conftest import LEVELS
from tests.firmware_sim.monitor import require_emulator
from tests.models import NetworkBuilder, everything, nested, small_network
from tests.shared import ROOT
from tflnest.errors import UnsupportedError, UsageError
from tflnest.model import Model, opcode_index

HERE = Path(__file__).parent
WARNINGS = "-Wall -Wextra -Wconversion -Wdouble-promotion -Werror"
SANITIZERS = "-fsanitize=address,undefined -fno-sanitize-recover=all"


#: Where programs are looked for: what pip has installed lies beside Python.
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def require(*programs: str) -> None:
    for program in programs:
        if shutil.which(program, path=PATH) is None:
            pytest.skip(f"{program} is not installed")


def run(*command: object, folder: Path | None = None, **variables: str) -> str:
    """What a program prints; it must succeed."""
    done = subprocess.run(
        [str(item) for item in command],
        cwd=folder,
        env={**os.environ, "PATH": PATH, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def report(model: Model, levels=LEVELS) -> str:
    """What a self-test must print: the outputs of the reference interpreter at each level, upwards and downwards."""
    crcs = {level: expected_crc32(model, level if model.directory else None) for level in levels}
    order = [*levels, *reversed(levels[:-1])]
    rows = [f"level {level}: outputs {crcs[level]:08x}, as expected\n" for level in order]
    return "".join([*rows, "all is well\n"])


def build(folder: Path, flags: str = "", *options: str, **variables: str) -> Path:
    """Configure and build with CMake; returns the folder of what was built."""
    require("cmake", "gcc")
    target = folder.parent / f"{folder.name}-build"
    flags = f"-O0 {WARNINGS} {flags}"
    run("cmake", "-S", folder, "-B", target, f"-DCMAKE_C_FLAGS={flags}", *options, **variables)
    run("cmake", "--build", target, **variables)
    return target


def selftest(folder: Path) -> subprocess.CompletedProcess[str]:
    """Compile all sources of a component for CMake and its example at once, and run them."""
    require("gcc")
    sources = [*sorted((folder / "src").rglob("*.c")), *sorted((folder / "example").glob("*.c"))]
    program = folder / "program"
    run("gcc", "-std=c99", "-O0", f"-I{folder / 'src'}", *sources, "-o", program)
    return subprocess.run([program], capture_output=True, text=True, check=False)


# ----------------------------------------------------------------------------------------------------------- CMake


def test_cmake_builds_and_installs_a_library_that_gives_the_reference_bits(model, tmp_path):
    export_component(model, "cmake", name="net").write(tmp_path / "net")
    built = build(tmp_path / "net", SANITIZERS)
    run("ctest", "--test-dir", built)
    assert run(built / "example" / "net_selftest").endswith(report(model))
    run("cmake", "--install", built, "--prefix", tmp_path / "installed")
    shutil.copytree(tmp_path / "net" / "example", tmp_path / "elsewhere")
    place = f"-DCMAKE_PREFIX_PATH={tmp_path / 'installed'}"
    other = build(tmp_path / "elsewhere", SANITIZERS, place)
    assert run(other / "net_selftest").endswith(report(model))


def test_a_self_test_notices_other_outputs(model, tmp_path):
    export_component(model, "cmake", name="net").write(tmp_path / "net")
    source = tmp_path / "net" / "example" / "selftest.c"
    text = source.read_text()
    crc = f"0x{expected_crc32(model, 6):08x}u"
    assert crc in text
    source.write_text(text.replace(crc, "0x00000001u"))
    done = selftest(tmp_path / "net")
    assert done.returncode == 1
    assert done.stdout.count("WRONG") == 2 and "NOT the outputs that were expected" in done.stdout


@pytest.mark.parametrize(("contents", "source"), [("code", "selftest.c"), ("tflm", "selftest.cc")])
def test_the_input_of_the_self_test_tells_levels_apart(contents, source, model, monkeypatch):
    """Where outputs saturate, the first inputs may give the same at all levels; where all do, the best one is taken."""
    for alike, chosen in ((0, 0), (2, 2), (INPUTS, 3)):

        def crc(model, level, engine, policy, seed, alike=alike):
            number = seed - SEED
            return level if number >= alike else int(number == 3 and level == 4)

        monkeypatch.setattr("firmware_sim.component.contents.expected_crc32", crc)
        made = export_component(model, "cmake", name="net", contents=contents)
        assert f"uint32_t state = 0x{SEED + chosen:08x}u;" in made.project.files[f"example/{source}"]
        assert len(set(made.project.manifest["checks"].values())) == (3 if alike < INPUTS else 2)


def test_pages_from_outside_are_waited_for(model, tmp_path):
    made = export_component(model, "cmake", name="net", pages="host")
    made.write(tmp_path / "net")
    done = selftest(tmp_path / "net")
    assert done.returncode == 0 and done.stdout.count("its pages are not here yet") == 3
    assert f"level 4: outputs {expected_crc32(model, 4):08x}, as expected" in done.stdout


def test_a_lower_level_leaves_the_higher_pages_out(model, tmp_path):
    made = export_component(model, "cmake", name="net", level=6)
    assert made.project.manifest["levels"] == [4, 6]
    full = export_component(model, "cmake", name="net")
    assert len(made.project.files["src/model_data.c"]) < len(full.project.files["src/model_data.c"])
    made.write(tmp_path / "net")
    assert selftest(tmp_path / "net").stdout.endswith(report(model, (4, 6)))


def test_a_plain_model_without_scratch_is_a_component_with_one_level_and_one_plan(tmp_path):
    net = NetworkBuilder()
    x = net.start((1, 4, 4, 4))
    y = net.activation((1, 4, 4, 4))
    net.operator("ADD", [x, x], [y])
    source = net.finish(y)
    made = export_component(source, "cmake", name="net")
    assert "src/model.c" in made.project.files and "src/model_dsp.c" not in made.project.files
    made.write(tmp_path / "net")
    assert selftest(tmp_path / "net").stdout.endswith(report(source, (8,)))


# ---------------------------------------------------------------------------------------------------------- boards


@pytest.mark.parametrize("board", ["microbit", "mps2-an386", "mps3-an547"])
def test_the_compiler_chooses_the_plan_of_the_processor(board, model, tmp_path):
    """Portable, DSP and vector kernels from one folder, as an Arduino or Zephyr build would compile it."""
    require_emulator()
    export_component(model, "arduino", name="net").write(tmp_path / "net")
    example = tmp_path / "net" / "examples" / "net_selftest"
    sources = sorted((tmp_path / "net" / "src").rglob("*.c"))
    image = Toolchain.find().link(
        Board.load(board),
        [*sources, example / "selftest.c", HERE / "board_main.c"],
        tmp_path / "net.elf",
        include=[tmp_path / "net" / "src", example],
    )
    received = b""
    with Emulator(Board.load(board), image) as machine:
        while b"well\n" not in received and b"NOT" not in received:
            received += machine.read_some(timeout_s=5)
    assert received.decode().endswith(report(model))


# -------------------------------------------------------------------------------------------------------- ESP-IDF


def test_esp_idf_registers_a_component_that_its_example_uses(small, tmp_path):
    yaml = pytest.importorskip("yaml")
    made = export_component(small, "esp-idf", name="net")
    made.write(tmp_path / "net")
    project = tmp_path / "net" / "examples" / "selftest"
    built = build(project, IDF_PATH=str(HERE / "stubs" / "esp-idf"))
    assert run(built / "net_selftest").endswith(report(small))
    manifest = yaml.safe_load(made.project.files["idf_component.yml"])
    assert manifest["dependencies"] == {"idf": ">=5.0"} and manifest["license"] == "Apache-2.0"
    assert re.fullmatch(r"\d+\.\d+\.\d+", manifest["version"])


def test_what_uses_an_esp_idf_component_for_tflm_finds_the_headers_of_tflm(small):
    yaml = pytest.importorskip("yaml")
    files = export_component(small, "esp-idf", name="net", contents="tflm").project.files
    needed = yaml.safe_load(files["idf_component.yml"])["dependencies"]
    assert needed["espressif/esp-tflite-micro"] == {"version": "*", "require": "public"}


# ------------------------------------------------------------------------------------------------------ every target


@pytest.mark.parametrize("contents", ["code", "tflm"])
@pytest.mark.parametrize("target", [str(target) for target in Target])
def test_files_are_the_same_each_time_and_complete(target, contents, model):
    made = export_component(model, target, contents=contents)
    files = made.project.files
    assert files == export_component(model, target, contents=contents).project.files
    own = {"src/model.h", "src/model_data.c"} if contents == "code" else {"src/model.h", "src/model_tflite.c"}
    assert {"README.md", "LICENSE", "firmware.json", *own} <= set(files)
    assert ('#include "model_tflite.h"' in files["src/model.h"]) == (contents == "tflm")
    manifest = json.loads(files["firmware.json"])
    assert manifest["kind"] == "component" and manifest["target"] == target
    assert manifest["identity"] == model.directory.identity.hex()
    assert manifest["checks"] == {str(level): f"{expected_crc32(model, level):08x}" for level in LEVELS}
    for name, text in files.items():
        assert text.isascii() and text.endswith("\n") and "\r" not in text, name
        assert "$" not in text or name.endswith(("CMakeLists.txt", ".md")), name
        if name.endswith((".h", ".c", ".cc")) and text.startswith("/* Generated"):
            assert max(map(len, text.splitlines())) <= 130, name
    named = " ".join(text for name, text in files.items() if name.endswith("CMakeLists.txt"))
    if target != "arduino":
        for name in made.parts.sources:
            assert f"src/{name}" in named


def test_the_license_is_that_of_the_project():
    assert (TEMPLATES / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_a_file_of_any_name_gives_a_library(model, tmp_path):
    path = tmp_path / '8 bits "now" \\ and: {so} $on.tflite'
    model.save(path)
    yaml = pytest.importorskip("yaml")
    made = export_component(path, "esp-idf")
    assert made.name == "model_8_bits_now_and_so_on"
    assert "8 bits 'now' / and" in yaml.safe_load(made.project.files["idf_component.yml"])["description"]
    assert component_name("resnet8") == "resnet8" and component_name("...") == "model"


def test_what_cannot_be_is_refused(model):
    with pytest.raises(UsageError, match="'Net-1' is no name for a library"):
        export_component(model, "cmake", name="Net-1")
    with pytest.raises(UsageError, match=r"it has a header model_data\.h"):
        export_component(model, "cmake", name="model_data")
    with pytest.raises(UsageError, match="the model has no level 5"):
        export_component(model, "cmake", level=5)
    with pytest.raises(UsageError, match="pages are for code"):
        export_component(model, "cmake", contents="tflm", pages="host")
    with pytest.raises(UsageError, match="the model is not nested"):
        export_component(small_network(), "cmake", contents="tflm")


def test_a_folder_of_others_is_left_alone_and_a_component_replaced_by_force(model, tmp_path):
    made = export_component(model, "zephyr")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds what tflnest did not make"):
        made.write(tmp_path / "mine", force=True)
    made.write(tmp_path / "own")
    with pytest.raises(UsageError, match="exists already"):
        made.write(tmp_path / "own")
    export_component(model, "arduino").write(tmp_path / "own", force=True)
    assert (tmp_path / "own" / "library.properties").is_file()
    assert not (tmp_path / "own" / "zephyr").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "own"]


# ------------------------------------------------------------------------------------------------------------ TFLM


def test_the_file_and_the_operators_for_tflm_are_in_it(model):
    made = export_component(model, "cmake", contents="tflm", name="net")
    files = made.project.files
    numbers = files["src/model_tflite.c"].split("= {", 1)[1].split("}")[0]
    assert bytes(int(item, 0) for item in re.findall(r"\w+", numbers)) == model.to_bytes()
    assert "src/tflnest_tflm.cc" in files and "src/tflnest/tflnest_types.h" in files
    selftest = files["example/selftest.cc"]
    assert "MicroMutableOpResolver<4>" in selftest
    assert "resolver.AddReshape();" in selftest and "tflnest::AddOperators(resolver);" in selftest
    level = export_component(model, "cmake", contents="tflm", level=6)
    assert level.parts.levels == (4, 6)


def test_a_controller_is_left_out_for_tflm(model):
    made, expected = (
        export_component(item, "cmake", contents="tflm", name="net").project.files
        for item in (controlled(model), model)
    )
    assert made == expected


def test_resolver_methods_are_those_of_tflm():
    names = {
        "CONV_2D": "AddConv2D",
        "AVERAGE_POOL_2D": "AddAveragePool2D",
        "L2_NORMALIZATION": "AddL2Normalization",
        "RELU6": "AddRelu6",
        "PADV2": "AddPadV2",
        "SPLIT_V": "AddSplitV",
        "RESIZE_NEAREST_NEIGHBOR": "AddResizeNearestNeighbor",
        "ADD": "AddAdd",
    }
    assert {name: resolver_method(name) for name in names} == names


def test_custom_operators_of_others_cannot_be_added(model):
    changed = model.copy()
    reshape = next(item for item in changed.graph.main.operators if item.name == "RESHAPE")
    changed.tree.subgraphs[0].operators[reshape.index].opcodeIndex = opcode_index(
        changed.tree, "THEIRS", custom=True
    )
    changed.changed()
    with pytest.raises(UnsupportedError, match="THEIRS"):
        export_component(Model.from_bytes(changed.to_bytes()), "cmake", contents="tflm")


def test_a_model_with_real_inputs_has_no_self_test_in_tflm():
    net = NetworkBuilder()
    real, x = net.input((1, 8, 8, 3), "FLOAT32"), net.activation((1, 8, 8, 3))
    net.operator("QUANTIZE", [real], [x])
    source = nested(net.finish(net.convolution(x, 16)), everything(LEVELS))
    with pytest.raises(UnsupportedError, match="is FLOAT32: the self-test compares integers alone"):
        export_component(source, "cmake", contents="tflm")


def test_levels_that_narrow_activations_are_for_code(small):
    narrow = narrow_levels(small, [4, 8, 8])
    with pytest.raises(UnsupportedError, match="fewer than 8 bits"):
        export_component(narrow, "cmake", contents="tflm")
    assert (
        export_component(narrow, "cmake").parts.checks[4] != export_component(small, "cmake").parts.checks[4]
    )
