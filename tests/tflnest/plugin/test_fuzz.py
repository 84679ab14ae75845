"""Hostile models reach the plugin through a runtime: nothing is read or written beyond its end."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from tests.models import everything, nested, network
from tests.shared import ROOT
from tests.tflnest.plugin.fuzz_seed import write_seed
from tflnest.plugin.library import unit

WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Wdouble-promotion", "-Werror")
CHAINS = {"bucket": (4, 6, 8), "compensated": (2, 4, 6, 8)}


@cache
def build(compiler: str, folder: Path) -> Path:
    parts = unit()
    program = folder / f"fuzz_{compiler}"
    command = [compiler, "-std=c99", "-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    command += ["-DFUZZ_ALONE", *(f"-I{path}" for path in parts.include), "-o", str(program)]
    command += [str(ROOT / "tests/fuzz/fuzz_plugin.c"), *map(str, parts.sources), "-lpthread"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if "cannot find" in result.stderr:
        pytest.skip(f"{compiler} has no sanitizers here")
    assert result.returncode == 0, result.stderr
    return program


def campaign(compiler: str, scheme: str, folder: Path, seed: int, inputs: int) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    path = folder / f"{scheme}.seed"
    write_seed(nested(network(), everything(CHAINS[scheme], scheme)), path)
    command = [str(build(compiler, folder)), str(path), str(seed), str(inputs)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    counts = [int(word) for word in result.stdout.replace(",", "").split() if word.isdigit()]
    assert counts[0] == inputs and min(counts) > inputs // 8, result.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("scheme", CHAINS)
def test_hostile_models_under_sanitizers(compiler: str, scheme: str, folder: Path) -> None:
    campaign(compiler, scheme, folder, 7, 2000)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", CHAINS)
def test_hostile_models_at_length(scheme: str, folder: Path) -> None:
    campaign("gcc", scheme, folder, 1234, 60000)


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_the_sources_compile_without_a_warning(compiler: str, tmp_path: Path) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    include = [f"-I{path}" for path in unit().include]
    own = [path for path in unit().sources if path.parent.name in ("nested", "plugin")]
    assert len(own) >= 8
    for path in own:
        command = [
            compiler,
            *WARNINGS,
            "-O2",
            "-fPIC",
            *include,
            "-c",
            str(path),
            "-o",
            str(tmp_path / "x.o"),
        ]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
