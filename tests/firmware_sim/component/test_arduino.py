"""Libraries for Arduino: what they hold, and that Arduino's builder makes sketches of them that give the right bits.

Sketches for other boards than this computer are looked for in the build folders that ARDUINO_BUILD names; see
docs/export.md.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile

from firmware_sim.board import Board
from firmware_sim.component.exporting import Component, export_component
from firmware_sim.emulator import Emulator
from firmware_sim.qemu import QEMU
from firmware_sim.toolchain import Toolchain
from tests.firmware_sim.component.images import LAST_LINES, PATIENCE_S, build_folders, expected
from tests.firmware_sim.component.test_component import report, require, run
from tests.firmware_sim.monitor import require_emulator
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

#: Bytes of SRAM that a model takes beside its arena: what is resident, and at which level it runs.
STATE_BYTES = 64


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
    """

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> Workshop:
        """An empty one; skips where the builder is not installed."""
        require("arduino-builder", "arduino-ctags")
        for name in ("libraries", "sketches", "tools", "build"):
            (folder / name).mkdir()
        return cls(folder)

    @property
    def program(self) -> Path:
        """The sketch as a program."""
        return self.folder / "build" / f"{SKETCH}.ino.elf"

    def put(self, component: Component) -> Path:
        """Install a library as its README says; returns a copy of its example, as a user saves it."""
        library = self.folder / "libraries" / NAME
        component.write(library)
        return Path(shutil.copytree(library / "examples" / SKETCH, self.folder / "sketches" / SKETCH))

    def build(self, sketch: Path) -> None:
        """Build the sketch for this computer with all warnings. Nothing may be said of our files."""
        done = subprocess.run(
            [
                "arduino-builder", "-compile", "-warnings", "all", "-fqbn", "computer:computer:computer",
                "-hardware", HERE / "arduino", "-tools", self.folder / "tools",
                "-libraries", self.folder / "libraries", "-build-path", self.folder / "build", "-prefs", CTAGS,
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


def test_the_builder_makes_a_sketch_that_runs(small, tmp_path):
    """With a board that is this computer."""
    require("g++")
    workshop = Workshop.make(tmp_path)
    workshop.build(workshop.put(export_component(small, "arduino", name=NAME)))
    assert run(workshop.program).endswith(report(small))


# ---------------------------------------------------------------------------------------------- sketches of users


@dataclass(frozen=True)
class Sketch:
    """A self-test that Arduino's tools built.

    Attributes:
        folder: The build folder.
        board: As Arduino calls it.
        name: Of the sketch.
        component: The library that it came with.
    """

    folder: Path
    board: str
    name: str
    component: Path

    @classmethod
    def of(cls, folder: Path) -> Sketch:
        """What is written in a build folder."""
        options = json.loads((folder / "build.options.json").read_text())
        name = Path(options["sketchLocation"]).with_suffix("").name
        libraries = [Path(item) for item in options["otherLibrariesFolders"].split(",")]
        found = [path for item in libraries for path in item.glob(f"*/examples/{name}")]
        assert len(found) == 1, f"{libraries} must have the library with the example {name}"
        return cls(folder, options["fqbn"], name, found[0].parents[1])

    @property
    def program(self) -> Path:
        """The sketch as a program."""
        return self.folder / f"{self.name}.ino.elf"

    def objects(self) -> list[Path]:
        """What was compiled of the library."""
        return sorted((self.folder / "libraries" / self.component.name).rglob("*.o"))

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


@dataclass(frozen=True)
class Machine:
    """A board for Arduino that QEMU has.

    Attributes:
        board: As Arduino calls it.
        name: As QEMU calls it.
        serial: Number of the serial port that is `Serial`.
        qemu: The emulator of its processor.
    """

    board: str
    name: str
    serial: int = 0
    qemu: str = QEMU

    def run(self, program: Path) -> str:
        """What a sketch prints, until it is at the end of its self-test."""
        require(self.qemu)
        with tempfile.TemporaryDirectory(prefix="tflnest-") as folder:
            output = Path(folder, "serial.txt")
            ports = [*["null"] * self.serial, f"file:{output}"]
            arguments = [item for port in ports for item in ("-serial", port)]
            command = [self.qemu, "-machine", self.name, "-nographic", "-monitor", "none", *arguments]
            with subprocess.Popen([*command, "-kernel", str(program)], stdin=subprocess.DEVNULL) as process:
                deadline = time.monotonic() + PATIENCE_S
                text = ""
                while (
                    not text.endswith(LAST_LINES) and time.monotonic() < deadline and process.poll() is None
                ):
                    time.sleep(0.1)
                    text = output.read_text(errors="replace") if output.exists() else ""
                process.kill()
        return text


#: Boards whose sketches run in QEMU as they are, or with arduino_emulated.cpp.
MACHINES = (
    Machine("sandeepmistry:nRF5:BBCmicrobit", "microbit"),
    Machine("STMicroelectronics:stm32:Disco:pnum=DISCO_F100RB", "stm32vldiscovery", 1),
    Machine("STMicroelectronics:stm32:GenF4:pnum=GENERIC_F405RGTX", "netduinoplus2", 3),
    Machine("sifive:riscv:hifive1", "sifive_e", qemu="qemu-system-riscv32"),
)

#: Emulated boards with the processors of other ones.
PROCESSORS = {
    "arduino:samd:": "microbit",
    "arduino:mbed_nano:nanorp2040connect": "microbit",
    "STMicroelectronics:stm32:Nucleo_144:pnum=NUCLEO_F746ZG": "mps2-an500",
}


def printed(sketch: Sketch, folder: Path) -> str:
    """What a sketch prints; of a board that QEMU lacks, what its object files print on one with the same processor."""
    machine = next((item for item in MACHINES if sketch.board.startswith(item.board)), None)
    if machine is not None:
        return machine.run(sketch.program)
    board = next((name for start, name in PROCESSORS.items() if sketch.board.startswith(start)), None)
    if board is None:
        pytest.skip(f"{sketch.board} is not emulated here")
    require_emulator()
    image = Toolchain.find().link(
        Board.load(board),
        [*sketch.objects(), sketch.folder / "sketch" / "selftest.c.o", HERE / "board_main.c"],
        folder / "linked.elf",
        include=[sketch.component / "examples" / sketch.name],
    )
    received = ""
    with Emulator(Board.load(board), image) as running:
        while not received.endswith(LAST_LINES):
            received += running.read_some(timeout_s=PATIENCE_S).decode()
    return received


@pytest.mark.slow
@pytest.mark.parametrize("folder", build_folders("ARDUINO_BUILD"), ids=lambda folder: folder and folder.name)
def test_a_sketch_for_a_board_gives_the_bits_of_the_interpreter(folder, tmp_path):
    """Constants are in flash, and SRAM takes what was planned, too."""
    if folder is None:
        pytest.skip("ARDUINO_BUILD names no build folders: see docs/export.md")
    sketch = Sketch.of(folder)
    assert printed(sketch, tmp_path).endswith(expected(sketch.component))
    manifest = json.loads((sketch.component / "firmware.json").read_text())
    if isinstance(manifest["arena_bytes"], dict):  # the model as C
        data, bss = sketch.library_bytes()
        assert data == 0
        assert any(0 <= bss - arena <= STATE_BYTES for arena in manifest["arena_bytes"].values())
