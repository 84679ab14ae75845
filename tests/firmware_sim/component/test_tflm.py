"""A component with operators for TensorFlow Lite Micro, built with CMake on the source tree that TFLM_ROOT names."""

from __future__ import annotations

from pathlib import Path

import pytest

from firmware_sim.component.exporting import export_component
from tests.firmware_sim.component.test_component import report, require, run
from tests.models import everything, nested, network
from tests.tflnest.tflm.tree import CXX, host_tree, root

LEVELS = (4, 6, 8)

#: A project with TensorFlow Lite Micro as a target, as a user may have it.
PROJECT = """
cmake_minimum_required(VERSION 3.16)
project(application LANGUAGES C CXX)
enable_testing()
add_library(tflm INTERFACE)
target_include_directories(tflm INTERFACE {include})
target_compile_options(tflm INTERFACE {flags} "$<$<COMPILE_LANGUAGE:CXX>:{cxx}>")
target_link_libraries(tflm INTERFACE {library})
set(TFLM_TARGET tflm)
set(NET_SELFTEST ON)
add_subdirectory(net)
"""


@pytest.mark.slow
def test_cmake_builds_it_and_every_level_gives_the_reference_bits(tmp_path: Path) -> None:
    tree = host_tree(root())
    require("cmake")
    model = nested(network(), everything(LEVELS))
    export_component(model, "cmake", contents="tflm", name="net").write(tmp_path / "net")
    values = {
        "include": " ".join(str(path) for path in tree.include),
        "flags": " ".join(tree.flags),
        "cxx": ";".join(CXX),
        "library": tree.library(tmp_path / "library"),
    }
    (tmp_path / "CMakeLists.txt").write_text(PROJECT.format(**values))
    run("cmake", "-S", tmp_path, "-B", tmp_path / "build")
    run("cmake", "--build", tmp_path / "build")
    printed = run(tmp_path / "build" / "net" / "example" / "net_selftest")
    assert printed.startswith("arena ") and printed.endswith(report(model))
