"""Components for Zephyr: the module and its sample with stand-ins for Zephyr's functions, and images that west built.

Images are looked for in the build folders that ZEPHYR_BUILD names; see docs/export.md.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from firmware_sim.board import Board
from firmware_sim.component.exporting import export_component
from firmware_sim.emulator import Emulator
from tests.firmware_sim.component.images import LAST_LINES, PATIENCE_S, build_folders, expected
from tests.firmware_sim.component.test_component import HERE, build, report, run
from tests.firmware_sim.monitor import require_emulator
from tflnest.model import Model

#: Boards that are emulated here, by the last part of what Zephyr calls them.
BOARDS = {"an385": "mps2-an385", "an547": "mps3-an547"}

CONTENTS = ("code", "tflm")


def exported(model: Model, folder: Path, contents: str = "code", name: str = "net") -> dict[str, str]:
    made = export_component(model, "zephyr", name=name, contents=contents)
    made.write(folder)
    return dict(made.project.files)


# --------------------------------------------------------------------------------------------------------- the folder


@pytest.mark.parametrize("list_name", ["EXTRA_ZEPHYR_MODULES", "ZEPHYR_EXTRA_MODULES"])
def test_the_sample_builds_the_module_whatever_zephyr_calls_the_list(list_name, small, tmp_path):
    exported(small, tmp_path / "net")
    sample = tmp_path / "net" / "samples" / "selftest"
    base = str(HERE / "stubs" / "zephyr")
    built = build(sample, "", f"-DLIST={list_name}", ZEPHYR_BASE=base)
    assert run(built / "app").endswith(report(small))


@pytest.mark.parametrize("contents", CONTENTS)
def test_the_module_names_files_that_are_there_and_what_it_depends_on(contents, small, tmp_path):
    yaml = pytest.importorskip("yaml")
    files = exported(small, tmp_path / "net", contents)
    module = yaml.safe_load(files["zephyr/module.yml"])
    assert module["name"] == "tflnest_net"
    assert {f"{module['build']['cmake']}/CMakeLists.txt", module["build"]["kconfig"]} <= set(files)
    assert module["build"].get("depends") == (["tflite-micro"] if contents == "tflm" else None)


@pytest.mark.parametrize("contents", CONTENTS)
def test_the_kconfig_file_is_understood(contents, model, tmp_path):
    kconfiglib = pytest.importorskip("kconfiglib")
    files = exported(model, tmp_path / "net", contents)
    kconfig = kconfiglib.Kconfig(str(tmp_path / "net" / "zephyr" / "Kconfig"), warn_to_stderr=False)
    assert kconfig.syms["TFLNEST_NET"].type == kconfiglib.BOOL
    depends = kconfiglib.expr_str(kconfig.syms["TFLNEST_NET"].direct_dep)
    assert depends == ("y" if contents == "code" else "TENSORFLOW_LITE_MICRO")
    options = files["samples/selftest/prj.conf"]
    assert "CONFIG_TFLNEST_NET=y\n" in options and ("CONFIG_CPP=y\n" in options) == (contents == "tflm")


@pytest.mark.parametrize("contents", CONTENTS)
def test_twister_knows_what_the_sample_needs_and_what_it_prints(contents, model):
    yaml = pytest.importorskip("yaml")
    made = export_component(model, "zephyr", name="net", contents=contents)
    sample = yaml.safe_load(made.project.files["samples/selftest/sample.yaml"])
    assert list(sample["tests"]) == ["sample.tflnest.net"]
    common = sample["common"]
    assert re.search(common["harness_config"]["regex"][0], report(model))
    assert common.get("modules") == (["tflite-micro"] if contents == "tflm" else None)
    arena = made.parts.facts["arena_bytes"]
    arena = max(arena.values()) if isinstance(arena, dict) else arena
    assert arena < common["min_ram"] * 1024 <= arena + 32768
    assert made.parts.flash_bytes < common["min_flash"] * 1024


def test_pages_in_sram_count_as_what_the_sample_needs(model):
    yaml = pytest.importorskip("yaml")
    needed = {}
    for pages in ("flash", "sram"):
        made = export_component(model, "zephyr", name="net", pages=pages)
        common = yaml.safe_load(made.project.files["samples/selftest/sample.yaml"])["common"]
        needed[pages] = (made.parts.sram_bytes, made.parts.flash_bytes, common["min_ram"])
    moved = needed["sram"][0] - needed["flash"][0]
    assert moved > 0 and moved == needed["flash"][1] - needed["sram"][1]
    assert needed["sram"][2] > needed["flash"][2]


# -------------------------------------------------------------------------------------------------- images of users


def component_of(folder: Path) -> Path:
    """The exported folder whose sample was built."""
    cache = (folder / "CMakeCache.txt").read_text()
    found = re.search(r"^APPLICATION_SOURCE_DIR:PATH=(.*)$", cache, re.MULTILINE)
    assert found is not None
    return Path(found[1]).parents[1]


def printed(folder: Path) -> str:
    """What an image prints until its self-test ends."""
    program = folder / "zephyr" / "zephyr.exe"
    if program.is_file():  # for this computer; it goes on for ever otherwise
        return run(program, "--no-rt", "--stop_at=1")
    config = (folder / "zephyr" / ".config").read_text()
    names = re.findall(r'^CONFIG_BOARD(?:_TARGET)?="([^"]+)"$', config, re.MULTILINE)
    board = next((BOARDS[part] for name in names for part in re.split("[/_]", name) if part in BOARDS), None)
    if board is None:
        pytest.skip(f"{names} is not emulated here")
    require_emulator()
    received = ""
    with Emulator(Board.load(board), folder / "zephyr" / "zephyr.elf", timeout_s=PATIENCE_S) as machine:
        while not any(line in received for line in LAST_LINES):
            more = machine.read_some(timeout_s=PATIENCE_S)
            assert more, f"it stopped after {received!r}"
            received += more.decode().replace("\r", "")
    return received


@pytest.mark.slow
@pytest.mark.parametrize("folder", build_folders("ZEPHYR_BUILD"), ids=lambda folder: folder and folder.name)
def test_an_image_of_zephyr_gives_the_bits_of_the_interpreter(folder):
    if folder is None:
        pytest.skip("ZEPHYR_BUILD names no build folders: see docs/export.md")
    assert expected(component_of(folder)) in printed(folder)
