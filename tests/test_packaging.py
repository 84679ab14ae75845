"""An installation has every file that the code reads."""

from __future__ import annotations

from distutils.core import run_setup
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: What an interpreter or a build leaves behind.
MADE = (".pyc", ".so")


def test_every_file_of_the_packages_is_installed():
    distribution = run_setup(str(ROOT / "setup.py"), stop_after="init")
    installed = {
        path
        for package, patterns in distribution.package_data.items()
        for pattern in patterns
        for path in (ROOT / package).glob(pattern)
        if path.is_file()
    }
    tops = {ROOT / name.partition(".")[0] for name in distribution.packages}
    assert {top.name for top in tops} == {"tflnest", "converters", "firmware_sim"}
    left_out = {
        path
        for top in tops
        for path in top.rglob("*")
        if path.is_file() and path.suffix not in (".py", *MADE) and path not in installed
    }
    assert not left_out


def test_every_module_belongs_to_a_package():
    distribution = run_setup(str(ROOT / "setup.py"), stop_after="init")
    packages = {ROOT.joinpath(*name.split(".")) for name in distribution.packages}
    for top in ("tflnest", "converters", "firmware_sim"):
        modules = {path.parent for path in (ROOT / top).rglob("*.py")}
        assert modules <= packages | {path for path in modules if "templates" in path.parts}
