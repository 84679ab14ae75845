"""Hostile models reach the component through TFLM: nothing is read or written beyond its end."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.models import everything, nested, network, with_own_biases
from tests.shared import ROOT
from tests.tflnest.tflm.component import CXX_FLAGS, HERE, Toolset, lay_out, sources
from tests.tflnest.tflm.fuzz_seed import write_decode_seed, write_seed

CHAINS = {"bucket": (4, 6, 8), "compensated": (2, 4, 6, 8)}
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")


#: What the decoders of nested filters consist of.
DECODING = (
    "tflnest_tflm_decode.cc",
    *("tflnest_plane_encoding.c", "tflnest_nested_filter.c", "tflnest_model_file.c", "tflnest_crc32.c"),
    *("tflnest_decode.c", "tflnest_digits.c", "tflnest_fields.c"),
)


def build(folder: Path, name: str, wanted: Sequence[str] = (), extra: Sequence[str] = ()) -> Path:
    """A campaign, with sources of the component in it; all where none are named."""
    component = lay_out(folder / "component")
    tools = Toolset(flags=("-g", "-O1", *SANITIZERS, "-DFUZZ_ALONE", "-DTFLNEST_VARIANT=0", *extra))
    tools.require()
    include = (component, HERE / "wheel")
    files = [path for path in sources(component) if not wanted or path.name in wanted]
    objects = tools.compile(files, include, folder / "objects")
    flags = [flag for flag in CXX_FLAGS if flag != "-Wconversion"]
    objects += tools.compile([ROOT / "tests/fuzz" / name], include, folder / "main", cxx_flags=flags)
    made = folder / "fuzz"
    command = [tools.cxx, *SANITIZERS, "-o", str(made), *map(str, objects)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if "cannot find" in result.stderr:
        pytest.skip(f"{tools.cxx} has no sanitizers here")
    assert result.returncode == 0, result.stderr
    return made


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The campaign against operators."""
    return build(tmp_path_factory.mktemp("fuzz"), "fuzz_tflm.cc")


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The campaign against decoders, which TFLM makes as a pull request of its had it: with references."""
    folder = tmp_path_factory.mktemp("decoder")
    return build(folder, "fuzz_decode.cc", DECODING, ("-DTFLNEST_TEST_HOOK=2",))


def campaign(program: Path, scheme: str, number: int, inputs: int) -> None:
    seed = program.parent / f"{scheme}.seed"
    write_seed(nested(network(), everything(CHAINS[scheme], scheme)), seed)
    run_campaign(program, seed, number, inputs)


def decoding_campaign(program: Path, scheme: str, number: int, inputs: int) -> None:
    seed = program.parent / f"{scheme}.seed"
    write_decode_seed(with_own_biases(network(), everything(CHAINS[scheme], scheme)), seed)
    run_campaign(program, seed, number, inputs)


def run_campaign(program: Path, seed: Path, number: int, inputs: int) -> None:
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


@pytest.mark.parametrize("scheme", CHAINS)
def test_hostile_encodings_under_sanitizers(scheme: str, decoder: Path) -> None:
    decoding_campaign(decoder, scheme, 7, 4000)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", CHAINS)
def test_hostile_encodings_at_length(scheme: str, decoder: Path) -> None:
    decoding_campaign(decoder, scheme, 1234, 100000)
