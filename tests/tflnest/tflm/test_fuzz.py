"""Hostile models reach the component through TFLM: nothing is read or written beyond its end."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.models import everything, nested, network
from tests.shared import ROOT
from tests.tflnest.tflm.component import CXX_FLAGS, HERE, Toolset, lay_out, sources
from tests.tflnest.tflm.fuzz_seed import write_seed

CHAINS = {"bucket": (4, 6, 8), "compensated": (2, 4, 6, 8)}
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The campaign, with the component in it."""
    folder = tmp_path_factory.mktemp("fuzz")
    component = lay_out(folder / "component")
    tools = Toolset(flags=("-g", "-O1", *SANITIZERS, "-DFUZZ_ALONE", "-DTFLNEST_VARIANT=0"))
    tools.require()
    include = (component, HERE / "wheel")
    objects = tools.compile(sources(component), include, folder / "objects")
    flags = [flag for flag in CXX_FLAGS if flag != "-Wconversion"]
    objects += tools.compile([ROOT / "tests/fuzz/fuzz_tflm.cc"], include, folder / "main", cxx_flags=flags)
    made = folder / "fuzz"
    command = [tools.cxx, *SANITIZERS, "-o", str(made), *map(str, objects)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if "cannot find" in result.stderr:
        pytest.skip(f"{tools.cxx} has no sanitizers here")
    assert result.returncode == 0, result.stderr
    return made


def campaign(program: Path, scheme: str, number: int, inputs: int) -> None:
    seed = program.parent / f"{scheme}.seed"
    write_seed(nested(network(), everything(CHAINS[scheme], scheme)), seed)
    command = [str(program), str(seed), str(number), str(inputs)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    counts = [int(word) for word in result.stdout.replace(",", "").split() if word.isdigit()]
    assert counts[0] == inputs and min(counts) > inputs // 5, result.stdout


@pytest.mark.parametrize("scheme", CHAINS)
def test_hostile_models_under_sanitizers(scheme: str, program: Path) -> None:
    campaign(program, scheme, 7, 4000)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", CHAINS)
def test_hostile_models_at_length(scheme: str, program: Path) -> None:
    campaign(program, scheme, 1234, 100000)
