"""The files around the sources: what each build system wants to find, and an example that runs the self-test."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from string import Template

from firmware_sim.component.contents import TEMPLATES, Contents, Parts
from tflnest.errors import UsageError
from tflnest.files import read_file
from tflnest.version import __version__


class Target(StrEnum):
    """What builds the component."""

    CMAKE = "cmake"
    ARDUINO = "arduino"
    ESP_IDF = "esp-idf"
    ZEPHYR = "zephyr"


def target_files(target: Target, parts: Parts, name: str, title: str, heading: str) -> dict[str, str]:
    """All files of a component but its manifest.

    Args:
        target: What builds it.
        parts: Its sources and self-test.
        name: Of the component: a C identifier in lower case.
        title: Name of the model, for people.
        heading: First line of every generated file, without the marks of a comment.

    Returns:
        Text by path within the component's folder.

    Raises:
        UsageError: The target does not take the name.
    """
    values = {
        "name": name,
        "upper": name.upper(),
        "title": title,
        "heading": heading,
        "version": __version__,
        "levels": ", ".join(map(str, parts.levels)),
        "board": _zephyr_board(parts),
    }
    files = {f"src/{_source_name(target, path)}": text for path, text in parts.files.items()}
    files |= _BUILDERS[target](parts, values)
    files["LICENSE"] = read_file(TEMPLATES / "LICENSE").decode("ascii")
    files["README.md"] = _fill(
        "README.md",
        **values,
        use=parts.use.strip(),
        memory=parts.memory,
        checks="\n".join(f"| {level} | `{crc:08x}` |" for level, crc in parts.checks.items()),
        build=_fill(f"{target}/README.md", **values, needs=_NEEDS[target] if _is_tflm(parts) else "").strip(),
        own="the operators for TensorFlow Lite Micro" if _is_tflm(parts) else "the kernels in use",
    )
    return files


#: A library for Arduino that has TensorFlow Lite Micro, and its header; they are spelled in two ways.
_ARDUINO_TFLM = "Chirale_TensorFLowLite"
_ARDUINO_TFLM_HEADER = "Chirale_TensorFlowLite.h"

#: Characters that the names of libraries and sketches may have.
_ARDUINO_NAME = 63

#: Where TensorFlow Lite Micro comes from, for each target.
_NEEDS = {
    Target.CMAKE: "\nSet `TFLM_TARGET` to the CMake target of your TensorFlow Lite Micro.\n",
    Target.ARDUINO: (
        f"\nInstall a library with TensorFlow Lite Micro of May 2023 or later too, such as {_ARDUINO_TFLM}.\n"
        "Arduino's builder finds it by its header, which the header of this library includes first: for another one\n"
        "change that line, and `depends` in `library.properties`.\n"
    ),
    Target.ESP_IDF: "\nThe component manager fetches `espressif/esp-tflite-micro` with it.\n",
    Target.ZEPHYR: (
        "\nYour workspace must contain the module `tflite-micro`, which west leaves out unless it is told to bring it:\n\n"
        "```sh\nwest config manifest.project-filter -- +tflite-micro\nwest update\n```\n\n"
        "Applications set what the sample sets in `prj.conf`: `CONFIG_TENSORFLOW_LITE_MICRO=y`, and C++17.\n"
    ),
}


def _is_tflm(parts: Parts) -> bool:
    return parts.contents is Contents.TFLM


def _cmake(parts: Parts, values: Mapping[str, str]) -> dict[str, str]:
    kind = "tflm" if _is_tflm(parts) else "code"
    own = {"sources": _lines(f"src/{path}" for path in parts.sources)}
    return {
        "CMakeLists.txt": _fill(f"cmake/{kind}.cmake", **values, **own),
        "example/CMakeLists.txt": _fill(
            "cmake/example.cmake",
            **values,
            selftest=_selftest_source(parts),
            languages="C CXX" if _is_tflm(parts) else "C",
        ),
        "example/main.c": _fill("cmake/main.c", **values),
        **{f"example/{path}": text for path, text in parts.selftest.items()},
    }


def _source_name(target: Target, path: str) -> str:
    """What a source is called: Arduino's older builders do not compile what ends with .cc."""
    return path.replace(".cc", ".cpp") if target is Target.ARDUINO else path


def _arduino(parts: Parts, values: Mapping[str, str]) -> dict[str, str]:
    """The Arduino builder compiles every source below `src`, which is on the path of headers as it is.

    Raises:
        UsageError: The name is longer than Arduino's may be.
    """
    sketch = f"{values['name']}_selftest"
    if len(sketch) > _ARDUINO_NAME:
        raise UsageError(
            f"names of Arduino have at most {_ARDUINO_NAME} characters, and {sketch} has {len(sketch)}",
            "choose a shorter one with --name",
        )
    folder = f"examples/{sketch}"
    depends = f"depends={_ARDUINO_TFLM}\n" if _is_tflm(parts) else ""
    return {
        "library.properties": _fill("arduino/library.properties", **values, depends=depends),
        **(_header_with_tflm(parts, values["name"]) if _is_tflm(parts) else {}),
        f"{folder}/{sketch}.ino": _fill("arduino/selftest.ino", **values),
        **{f"{folder}/{_source_name(Target.ARDUINO, path)}": text for path, text in parts.selftest.items()},
    }


def _header_with_tflm(parts: Parts, name: str) -> dict[str, str]:
    """The header of the library, with that of TensorFlow Lite Micro's: the builder finds libraries by such lines."""
    before, first, after = parts.files[f"{name}.h"].partition("#include ")
    assert first
    note = "/* The library with TensorFlow Lite Micro; for another one, change this line. */"
    return {f"src/{name}.h": f"{before}{note}\n#include <{_ARDUINO_TFLM_HEADER}>\n\n{first}{after}"}


def _esp_idf(parts: Parts, values: Mapping[str, str]) -> dict[str, str]:
    tflm = _is_tflm(parts)
    dependency = _fill("esp-idf/dependency.yml") if tflm else ""
    options = _fill("esp-idf/stack.defaults") if tflm else ""
    own = {"sources": _lines((f'"src/{path}"' for path in parts.sources), 4)}
    folder = "examples/selftest"
    return {
        "CMakeLists.txt": _fill("esp-idf/component.cmake", **values, **own),
        "idf_component.yml": _fill("esp-idf/idf_component.yml", **values, dependency=dependency),
        f"{folder}/CMakeLists.txt": _fill("esp-idf/project.cmake", **values),
        f"{folder}/sdkconfig.defaults": _fill("esp-idf/sdkconfig.defaults", **values, options=options),
        f"{folder}/main/CMakeLists.txt": _fill(
            "esp-idf/main.cmake", **values, selftest=_selftest_source(parts)
        ),
        f"{folder}/main/main.c": _fill("esp-idf/main.c", **values),
        **{f"{folder}/main/{path}": text for path, text in parts.selftest.items()},
    }


#: Bytes of SRAM and of flash that Zephyr takes besides, with a stack and code, for either kind of contents.
_ZEPHYR_BYTES = {Contents.CODE: (8192, 49152), Contents.TFLM: (16384, 196608)}

#: KiB of SRAM and of flash of the board that most of Zephyr's examples name.
_QEMU_CORTEX_M3 = (64, 256)

#: Zephyr has no locks for what a function initializes when it is first called.
_ZEPHYR_CXX = "target_compile_options(app PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-fno-threadsafe-statics>)\n"


def _zephyr_needs(parts: Parts) -> tuple[int, int]:
    """KiB of SRAM and of flash that a board must have."""
    sram, flash = _ZEPHYR_BYTES[parts.contents]
    return -(-(parts.sram_bytes + sram) // 1024), -(-(parts.flash_bytes + flash) // 1024)


def _zephyr_board(parts: Parts) -> str:
    """An emulated board that the sample fits on."""
    sram, flash = _zephyr_needs(parts)
    return "qemu_cortex_m3" if sram <= _QEMU_CORTEX_M3[0] and flash <= _QEMU_CORTEX_M3[1] else "mps2/an385"


def _zephyr(parts: Parts, values: Mapping[str, str]) -> dict[str, str]:
    """A module, and an application that names it."""
    tflm = _is_tflm(parts)
    own = {
        "sources": _lines((f"../src/{path}" for path in parts.sources), 4),
        "modules": "  depends:\n    - tflite-micro\n" if tflm else "",
        "depends": "\tdepends on TENSORFLOW_LITE_MICRO\n" if tflm else "",
    }
    sram, flash = _zephyr_needs(parts)
    sample = {
        "selftest": _selftest_source(parts),
        "flags": _ZEPHYR_CXX if tflm else "",
        "options": "CONFIG_CPP=y\nCONFIG_STD_CPP17=y\nCONFIG_TENSORFLOW_LITE_MICRO=y\n" if tflm else "",
        "modules": "  modules:\n    - tflite-micro\n" if tflm else "",
        "sram": str(sram),
        "flash": str(flash),
    }
    module = {
        f"zephyr/{path}": _fill(f"zephyr/{template}", **values, **own)
        for path, template in (
            ("module.yml", "module.yml"),
            ("CMakeLists.txt", "module.cmake"),
            ("Kconfig", "Kconfig"),
        )
    }
    folder = "samples/selftest"
    application = {
        f"{folder}/{path}": _fill(f"zephyr/{template}", **values, **sample)
        for path, template in (
            ("CMakeLists.txt", "sample.cmake"),
            ("prj.conf", "prj.conf"),
            ("sample.yaml", "sample.yaml"),
            ("src/main.c", "main.c"),
        )
    }
    return module | application | {f"{folder}/src/{path}": text for path, text in parts.selftest.items()}


_BUILDERS: dict[Target, Callable[[Parts, Mapping[str, str]], dict[str, str]]] = {
    Target.CMAKE: _cmake,
    Target.ARDUINO: _arduino,
    Target.ESP_IDF: _esp_idf,
    Target.ZEPHYR: _zephyr,
}


def _selftest_source(parts: Parts) -> str:
    return next(path for path in sorted(parts.selftest) if not path.endswith(".h"))


def _lines(names: Iterable[str], indent: int = 2) -> str:
    return "\n".join(" " * indent + name for name in names)


def _fill(template: str, **values: str) -> str:
    return Template(read_file(TEMPLATES / template).decode("ascii")).substitute(values)
