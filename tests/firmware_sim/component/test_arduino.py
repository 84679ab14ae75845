"""Libraries for Arduino: what they hold, and that Arduino's builder makes sketches of them that give the right bits.

Cores of boards are taken from the folder that the environment variable ARDUINO_PACKAGES names (docs/export.md).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile

from firmware_sim.board import Board
from firmware_sim.component.exporting import Component, export_component
from firmware_sim.emulator import Emulator
from firmware_sim.image import Image
from firmware_sim.qemu import QEMU
from firmware_sim.toolchain import Toolchain
from tests.firmware_sim.component.test_component import report, require, run
from tests.firmware_sim.monitor import require_emulator
from tests.tflnest.tflm.component import Toolset
from tests.tflnest.tflm.tree import Tree, root
from tflnest.errors import UsageError

HERE = Path(__file__).parent

#: Of the library: none that a core's header has.
NAME = "tiny_net"
SKETCH = f"{NAME}_selftest"

#: What the builder needs to know of the program that finds functions in sketches.
CTAGS = (
    "tools.ctags.pattern=arduino-ctags -u --language-force=c++ -f - --c++-kinds=svpf --fields=KSTtzns "
    '--line-directives "{source_file}"'
)

#: Seconds until a sketch that is not at its end has failed.
PATIENCE_S = 120.0

#: How a self-test ends.
LAST_LINES = ("all is well\n", "NOT the outputs that were expected\n")

#: Bytes of SRAM that a model takes beside its arena: what is resident, and at which level it runs.
STATE_BYTES = 64

#: Folders of headers in TensorFlow Lite Micro's source and in what it uses.
TFLM_HEADERS = ("tensorflow/lite", "tensorflow/compiler", "signal")
OTHER_HEADERS = ("flatbuffers", "fixedpoint", "internal", "ruy")


def properties(text: str) -> dict[str, str]:
    """Content of library.properties."""
    return dict(line.split("=", 1) for line in text.splitlines())


# -------------------------------------------------------------------------------------------------- what is in it


@pytest.mark.parametrize("contents", ["code", "tflm"])
def test_every_header_is_found_from_src_alone(contents, model):
    files = export_component(model, "arduino", name=NAME, contents=contents).project.files
    headers = {name.removeprefix("src/") for name in files if name.startswith("src/") and name.endswith(".h")}
    theirs = ("tensorflow/", "Chirale_TensorFlowLite.h")
    for name, text in files.items():
        if name.startswith("src/"):
            folder = name.removeprefix("src/").rpartition("/")[0]
            for included in re.findall(r'#include "([^"]+)"', text):
                if included.endswith("_x86.h"):  # behind a condition that is never true in a component
                    continue
                if contents == "tflm" and included.startswith(theirs):
                    continue
                assert included in headers or f"{folder}/{included}" in headers, (name, included)


@pytest.mark.parametrize("contents", ["code", "tflm"])
def test_the_properties_are_as_arduino_specifies_them(contents, model):
    """The library specification, and what arduino-lint calls errors."""
    files = export_component(model, "arduino", name=NAME, contents=contents).project.files
    found = properties(files["library.properties"])
    assert {"name", "version", "author", "maintainer", "sentence", "paragraph", "url"} <= set(found)
    assert all(found.values())
    assert found["name"] == NAME and f"src/{found['includes']}" in files
    assert re.fullmatch(r"\d+\.\d+\.\d+", found["version"]) and found["url"].startswith("https://")
    assert found["category"] == "Data Processing" and found["architectures"] == "*"
    assert found.get("depends") == ("Chirale_TensorFLowLite" if contents == "tflm" else None)
    assert f"examples/{SKETCH}/{SKETCH}.ino" in files


def test_sources_have_endings_that_every_builder_compiles(model):
    files = export_component(model, "arduino", name=NAME, contents="tflm").project.files
    assert {"src/tflnest_tflm.cpp", f"examples/{SKETCH}/selftest.cpp"} <= set(files)
    assert not [name for name in files if name.endswith(".cc")]


def test_the_header_names_the_library_with_tflm_before_anything_of_it(model):
    """The builder looks for libraries by headers of their root folders, and stops at one that it does not find."""
    text = export_component(model, "arduino", name=NAME, contents="tflm").project.files[f"src/{NAME}.h"]
    included = re.findall(r"#include (\S+)", text)
    assert included == ["<Chirale_TensorFlowLite.h>", '"model_tflite.h"', '"tflnest_tflm.h"']


def test_names_have_a_limit(model):
    export_component(model, "arduino", name="n" * 54)
    with pytest.raises(UsageError, match=r"at most 63 characters, and \w+ has 64"):
        export_component(model, "arduino", name="n" * 55)


def test_a_processor_of_16_bits_is_refused_at_compile_time(model, tmp_path):
    require("gcc")
    export_component(model, "arduino", name=NAME).write(tmp_path / NAME)
    command = [
        "gcc",
        "-fsyntax-only",
        "-U__INT_MAX__",
        "-D__INT_MAX__=32767",
        f"-I{tmp_path / 'net' / 'src'}",
    ]
    done = subprocess.run(
        [*command, str(tmp_path / NAME / "src" / "tflnest" / "tflnest_types.h")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0 and "int has 32 bits" in done.stderr


# -------------------------------------------------------------------------------------------------- the builder


@dataclass(frozen=True)
class Workshop:
    """A sketchbook with a library, and the builder.

    Attributes:
        folder: Holds `libraries`, `sketches` and what is built.
        hardware: Where the cores are.
        tools: Where their tools are.
    """

    folder: Path
    hardware: Path
    tools: Path

    @classmethod
    def make(cls, folder: Path, hardware: Path, tools: Path | None = None) -> Workshop:
        """An empty one; skips where the builder is not installed."""
        require("arduino-builder", "arduino-ctags")
        for name in ("libraries", "sketches", "tools", "build"):
            (folder / name).mkdir()
        return cls(folder, hardware, tools or folder / "tools")

    @property
    def built(self) -> Path:
        """Where the builder writes."""
        return self.folder / "build"

    @property
    def program(self) -> Path:
        """The sketch as a program."""
        return self.built / f"{SKETCH}.ino.elf"

    def put(self, component: Component) -> Path:
        """Install a library as its README says; returns a copy of its example, as a user saves it."""
        library = self.folder / "libraries" / NAME
        component.write(library)
        return Path(shutil.copytree(library / "examples" / SKETCH, self.folder / "sketches" / SKETCH))

    def build(self, board: str, sketch: Path, *preferences: str) -> str:
        """Build the sketch with all warnings; returns what the builder says. Nothing may be said of our files."""
        done = subprocess.run(
            [
                "arduino-builder", "-compile", "-warnings", "all", "-fqbn", board,
                "-hardware", self.hardware, "-tools", self.tools, "-libraries", self.folder / "libraries",
                "-build-path", self.built, *(item for value in (CTAGS, *preferences) for item in ("-prefs", value)),
                sketch / f"{SKETCH}.ino",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:]
        ours = (str(self.folder / "libraries" / NAME), str(self.folder / "sketches"))
        assert not [line for line in done.stdout.splitlines() if "warning:" in line and line.startswith(ours)]
        return done.stdout

    def objects(self) -> list[Path]:
        """What the builder compiled of the library."""
        return sorted((self.built / "libraries" / NAME).rglob("*.o"))

    def library_bytes(self) -> tuple[int, int]:
        """Bytes of SRAM that the library's objects take: with content, and without."""
        data = bss = 0
        for path in self.objects():
            with path.open("rb") as file:
                for section in ELFFile(file).iter_sections():
                    if section["sh_flags"] & SH_FLAGS.SHF_WRITE and section["sh_flags"] & SH_FLAGS.SHF_ALLOC:
                        empty = section["sh_type"] == "SHT_NOBITS"
                        data += 0 if empty else section["sh_size"]
                        bss += section["sh_size"] if empty else 0
        return data, bss


def test_the_builder_makes_a_sketch_that_runs(small, tmp_path):
    """With a board that is this computer."""
    require("g++")
    workshop = Workshop.make(tmp_path, HERE / "arduino")
    workshop.build("computer:computer:computer", workshop.put(export_component(small, "arduino", name=NAME)))
    assert run(workshop.program).endswith(report(small))


# ----------------------------------------------------------------------------------------------------------- cores


def packages(board: str) -> Path:
    """The folder with cores; skips where it has none for a board."""
    named = os.environ.get("ARDUINO_PACKAGES")
    if not named:
        pytest.skip("ARDUINO_PACKAGES does not name a folder with cores for Arduino")
    packager, architecture = board.split(":")[:2]
    if not (Path(named) / packager / "hardware" / architecture).is_dir():
        pytest.skip(f"{named} has no core {packager}:{architecture}")
    require_emulator()
    return Path(named).resolve()


def workshop_for(board: str, folder: Path) -> Workshop:
    found = packages(board)
    return Workshop.make(folder, found, found)


@dataclass(frozen=True)
class Machine:
    """A board for Arduino that QEMU has.

    Attributes:
        board: As Arduino calls it.
        name: As QEMU calls it.
        kernels: Those that its processor runs.
        serial: Number of the serial port that is `Serial`.
        replaced: The function that arduino_emulated.cpp stands in for, if any.
        qemu: The emulator of its processor.
    """

    board: str
    name: str
    kernels: str
    serial: int = 0
    replaced: str | None = None
    qemu: str = QEMU

    def build(self, workshop: Workshop, sketch: Path) -> str:
        """The sketch, and what stands in for hardware that QEMU lacks."""
        if self.replaced is None:
            return workshop.build(self.board, sketch)
        shutil.copy(HERE / "arduino_emulated.cpp", sketch)
        wrap = f"compiler.c.elf.extra_flags=-Wl,--wrap={self.replaced}"
        return workshop.build(self.board, sketch, wrap)

    def run(self, program: Path) -> str:
        """What a sketch prints, until it is at the end of its self-test."""
        output = program.with_suffix(".txt")
        ports = [*["null"] * self.serial, f"file:{output}"]
        arguments = [item for port in ports for item in ("-serial", port)]
        command = [self.qemu, "-machine", self.name, "-nographic", "-monitor", "none", *arguments]
        with subprocess.Popen([*command, "-kernel", str(program)], stdin=subprocess.DEVNULL) as process:
            deadline = time.monotonic() + PATIENCE_S
            text = ""
            while not text.endswith(LAST_LINES) and time.monotonic() < deadline and process.poll() is None:
                time.sleep(0.1)
                text = output.read_text(errors="replace") if output.exists() else ""
            process.kill()
        return text


STM32_WRAP = "HAL_UART_Transmit_IT"
MICROBIT = Machine("sandeepmistry:nRF5:BBCmicrobit:softdevice=none", "microbit", "portable", 0, "delay")
STM32F100 = Machine(
    "STMicroelectronics:stm32:Disco:pnum=DISCO_F100RB", "stm32vldiscovery", "portable", 1, STM32_WRAP
)
STM32F405 = Machine(
    "STMicroelectronics:stm32:GenF4:pnum=GENERIC_F405RGTX", "netduinoplus2", "dsp", 3, STM32_WRAP
)
HIFIVE1 = Machine(
    "sifive:riscv:hifive1:clksrc=hfxtal,toolsloc=default", "sifive_e", "portable", qemu="qemu-system-riscv32"
)
MACHINES = (MICROBIT, STM32F100, STM32F405, HIFIVE1)
MACHINE_NAMES = [machine.name for machine in MACHINES]


def check_memory(workshop: Workshop, component: Component, kernels: str) -> None:
    """Constants are in flash, and SRAM takes what was planned."""
    data, bss = workshop.library_bytes()
    arena = component.project.manifest["arena_bytes"][kernels]
    assert data == 0 and arena <= bss <= arena + STATE_BYTES


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES, ids=MACHINE_NAMES)
def test_a_sketch_for_a_board_gives_the_reference_bits(machine, small, tmp_path):
    """The whole sketch with the core of the board: its start-up, its C library and its serial port."""
    workshop = workshop_for(machine.board, tmp_path)
    require(machine.qemu)
    made = export_component(small, "arduino", name=NAME)
    machine.build(workshop, workshop.put(made))
    check_memory(workshop, made, machine.kernels)
    assert machine.run(workshop.program).endswith(report(small))


@pytest.mark.slow
@pytest.mark.parametrize(
    "board, emulated, kernels",
    [
        ("arduino:samd:arduino_zero_edbg", "microbit", "portable"),
        ("arduino:mbed_nano:nanorp2040connect", "microbit", "portable"),
        ("STMicroelectronics:stm32:Nucleo_144:pnum=NUCLEO_F746ZG", "mps2-an500", "dsp"),
    ],
)
def test_what_was_compiled_for_a_board_gives_the_reference_bits(board, emulated, kernels, small, tmp_path):
    """The sketch is linked for its board, and its object files once more for one with the same processor in QEMU."""
    workshop = workshop_for(board, tmp_path)
    made = export_component(small, "arduino", name=NAME)
    sketch = workshop.put(made)
    workshop.build(board, sketch)
    assert Image(workshop.program).sections
    check_memory(workshop, made, kernels)
    image = Toolchain.find().link(
        Board.load(emulated),
        [*workshop.objects(), workshop.built / "sketch" / "selftest.c.o", HERE / "board_main.c"],
        tmp_path / "linked.elf",
        include=[sketch],
    )
    received = b""
    with Emulator(Board.load(emulated), image) as running:
        while not received.endswith(tuple(line.encode() for line in LAST_LINES)):
            received += running.read_some(timeout_s=PATIENCE_S)
    assert received.decode().endswith(report(small))


# ------------------------------------------------------------------------------------------------------------ TFLM


def tflm_library(folder: Path) -> None:
    """A library for Arduino out of the source of TensorFlow Lite Micro that TFLM_ROOT names, with a few kernels.

    As in the libraries that there are, ARDUINO takes the place of the definition that makes structures small: a sketch
    can't define anything for libraries.
    """
    tree = Tree(root(), Toolset())
    wanted = {path: path.relative_to(tree.path).with_suffix(".cpp") for path in tree.files()}
    for base, names in ((tree.path, TFLM_HEADERS), *((base, OTHER_HEADERS) for base in tree.include[1:])):
        for path in (path for name in names for path in (base / name).rglob("*.h")):
            if "downloads" not in path.relative_to(base).parts:
                wanted[path] = path.relative_to(base)
    for path, name in wanted.items():
        (folder / "src" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "src" / name).write_text(path.read_text().replace("TF_LITE_STATIC_MEMORY", "ARDUINO"))
    (folder / "src" / "Chirale_TensorFlowLite.h").touch()
    (folder / "library.properties").write_text(
        "name=Chirale_TensorFLowLite\nversion=0.0.0\nauthor=test\nmaintainer=test\nsentence=test\nparagraph=test\n"
        "category=Data Processing\nurl=https://example.org\narchitectures=*\n"
    )


@pytest.mark.slow
def test_a_sketch_with_tflm_gives_the_reference_bits(model, tmp_path):
    """Minutes: the builder compiles TensorFlow Lite Micro anew."""
    workshop = workshop_for(STM32F405.board, tmp_path)
    tflm_library(tmp_path / "libraries" / "tensorflow")
    STM32F405.build(workshop, workshop.put(export_component(model, "arduino", name=NAME, contents="tflm")))
    printed = STM32F405.run(workshop.program)
    assert printed.startswith("arena ") and printed.endswith(report(model))
