"""The benchmark of generated firmware measures, compares and says what is wrong."""

from __future__ import annotations

import pytest

from benchmarks import firmware
from tests.firmware_sim.monitor import require_emulator
from tests.shared import SHARED
from tflnest.errors import ExitCode

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(
        not (SHARED / "models" / "hello_world_int8.tflite").is_file(),
        reason="the public models are not beside the checkout",
    ),
]
ONE = ("--models", "hello_world", "--boards", "mps2-an386", "--kinds", "nested")


@pytest.fixture(autouse=True)
def emulator() -> None:
    require_emulator()


def test_a_row_for_every_level_with_the_peer_beside_it(capsys):
    assert firmware.main(ONE) == ExitCode.OK
    header, *rows = capsys.readouterr().out.splitlines()
    assert [row.split()[:5] for row in rows] == [
        ["hello_world", "nested", "mps2-an386", str(level), "yes"] for level in firmware.LEVELS
    ]
    peer = firmware.peer("tflm_instructions.json")["hello_world"]["cortex_m4"]
    for row in rows:
        instructions, theirs, ratio = row.split()[5:8]
        assert int(theirs.replace(",", "")) == peer
        assert float(ratio) == pytest.approx(int(instructions.replace(",", "")) / peer, abs=0.006)
    assert len(header.split()) == len(rows[0].split())


def test_other_bits_are_a_failure(capsys, monkeypatch):
    monkeypatch.setattr(firmware, "expected_crc32", lambda model, level: 0)
    assert firmware.main(ONE) == ExitCode.VERIFICATION
    assert " NO " in capsys.readouterr().out


def test_what_does_not_fit_says_so(capsys):
    arguments = ("--models", "ad01", "--boards", "microbit", "--kinds", "plain")
    assert firmware.main(arguments) == ExitCode.OK
    assert "bytes of flash" in capsys.readouterr().out
