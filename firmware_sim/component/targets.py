"""The files around the sources: what each build system wants to find, and an example that runs the self-test."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from string import Template

from firmware_sim.component.contents import TEMPLATES, Contents, Parts
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
    """
    values = {
        "name": name,
        "upper": name.upper(),
        "title": title,
        "heading": heading,
        "version": __version__,
        "levels": ", ".join(map(str, parts.levels)),
    }
    files = {f"src/{path}": text for path, text in parts.files.items()}
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


#: Where TensorFlow Lite Micro comes from, for each target.
_NEEDS = {
    Target.CMAKE: "\nSet `TFLM_TARGET` to the CMake target of your TensorFlow Lite Micro.\n",
    Target.ARDUINO: "\nInstall a library with TensorFlow Lite Micro too, such as Chirale_TensorFlowLite.\n",
    Target.ESP_IDF: "\nThe component manager fetches `espressif/esp-tflite-micro` with it.\n",
    Target.ZEPHYR: "\nYour west manifest must contain the module `tflite-micro`, and `CONFIG_CPP` be on.\n",
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


def _arduino(parts: Parts, values: Mapping[str, str]) -> dict[str, str]:
    """The Arduino builder compiles every source below `src`, which is on the path of headers as it is."""
    folder = f"examples/{values['name']}_selftest"
    selftest = {path.replace(".cc", ".cpp"): text for path, text in parts.selftest.items()}
    return {
        "library.properties": _fill("arduino/library.properties", **values),
        f"{folder}/{values['name']}_selftest.ino": _fill("arduino/selftest.ino", **values),
        **{f"{folder}/{path}": text for path, text in selftest.items()},
    }


def _esp_idf(parts: Parts, values: Mapping[str, str]) -> dict[str, str]:
    tflm = _is_tflm(parts)
    dependency = _fill("esp-idf/dependency.yml") if tflm else ""
    own = {"sources": _lines((f'"src/{path}"' for path in parts.sources), 4)}
    folder = "examples/selftest"
    return {
        "CMakeLists.txt": _fill("esp-idf/component.cmake", **values, **own),
        "idf_component.yml": _fill("esp-idf/idf_component.yml", **values, dependency=dependency),
        f"{folder}/CMakeLists.txt": _fill("esp-idf/project.cmake", **values),
        f"{folder}/sdkconfig.defaults": _fill("esp-idf/sdkconfig.defaults", **values),
        f"{folder}/main/CMakeLists.txt": _fill(
            "esp-idf/main.cmake", **values, selftest=_selftest_source(parts)
        ),
        f"{folder}/main/main.c": _fill("esp-idf/main.c", **values),
        **{f"{folder}/main/{path}": text for path, text in parts.selftest.items()},
    }


def _zephyr(parts: Parts, values: Mapping[str, str]) -> dict[str, str]:
    tflm = _is_tflm(parts)
    own = {"sources": _lines((f"../src/{path}" for path in parts.sources), 4)}
    depends = "\tdepends on TENSORFLOW_LITE_MICRO\n" if tflm else ""
    options = "CONFIG_CPP=y\nCONFIG_STD_CPP17=y\nCONFIG_TENSORFLOW_LITE_MICRO=y\n" if tflm else ""
    folder = "samples/selftest"
    return {
        "zephyr/module.yml": _fill("zephyr/module.yml", **values),
        "zephyr/CMakeLists.txt": _fill("zephyr/module.cmake", **values, **own),
        "zephyr/Kconfig": _fill("zephyr/Kconfig", **values, depends=depends),
        f"{folder}/CMakeLists.txt": _fill("zephyr/sample.cmake", **values, selftest=_selftest_source(parts)),
        f"{folder}/prj.conf": _fill("zephyr/prj.conf", **values, options=options),
        f"{folder}/sample.yaml": _fill("zephyr/sample.yaml", **values),
        f"{folder}/src/main.c": _fill("zephyr/main.c", **values),
        **{f"{folder}/src/{path}": text for path, text in parts.selftest.items()},
    }


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
