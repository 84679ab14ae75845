from __future__ import annotations

import pytest

from firmware_sim.board import PROFILES, Board, list_boards, parse_size
from firmware_sim.target import CORTEX_M, ILP32
from tflnest.errors import ExitCode, FormatError, UsageError

KIB = 1024


@pytest.mark.parametrize(
    ("name", "sram", "flash"),
    [
        ("stm32vldiscovery", 8 * KIB, 128 * KIB),
        ("microbit", 16 * KIB, 256 * KIB),
        ("netduinoplus2", 192 * KIB, 1024 * KIB),
        ("nrf52840", 256 * KIB, 1024 * KIB),
        ("rp2040", 264 * KIB, 2048 * KIB),
        ("esp32-s3", 480 * KIB, 8192 * KIB),
        ("mps2-an385", 4096 * KIB, 4096 * KIB),
        ("mps2-an386", 4096 * KIB, 4096 * KIB),
        ("mps2-an500", 4096 * KIB, 4096 * KIB),
        ("mps3-an547", 512 * KIB, 512 * KIB),
    ],
)
def test_profiles(name, sram, flash):
    board = Board.load(name)
    assert (board.name, board.sram_bytes, board.flash_bytes) == (name, sram, flash)
    assert board.usable_sram_bytes == sram - board.stack_bytes
    assert name in list_boards()


def test_boards_are_listed_by_their_sram():
    sizes = [Board.load(name).sram_bytes for name in list_boards()]
    assert sizes == sorted(sizes)
    assert len(sizes) >= 8


def test_the_abi_follows_the_core():
    assert Board.load("rp2040").target is CORTEX_M
    assert Board.load("esp32-s3").target is ILP32


def test_limits_can_be_overridden():
    board = Board.load("microbit")
    changed = board.with_limits(sram_bytes=32 * KIB)
    assert (changed.sram_bytes, changed.flash_bytes) == (32 * KIB, board.flash_bytes)
    assert board.with_limits(flash_bytes=1000).flash_bytes == 1000
    with pytest.raises(UsageError, match="do not hold the 1,280 bytes kept for the stack"):
        board.with_limits(sram_bytes=1024)
    with pytest.raises(UsageError, match="flash_bytes is 0"):
        board.with_limits(flash_bytes=0)


def test_a_byte_on_the_link_takes_ten_bits():
    assert Board.load("microbit").link_seconds(11_520) == pytest.approx(1.0)


def test_an_unknown_board_suggests_close_names():
    with pytest.raises(UsageError) as caught:
        Board.load("nrf5280")
    assert "did you mean nrf52840" in caught.value.message
    assert "stm32vldiscovery" in (caught.value.hint or "")
    assert caught.value.exit_code is ExitCode.USAGE


@pytest.fixture
def profile(tmp_path):
    text = (PROFILES / "microbit.toml").read_text()

    def write(old="", new=""):
        assert old in text
        path = tmp_path / "mine.toml"
        path.write_text(text.replace(old, new, 1))
        return path

    return write


def test_a_profile_of_the_user(profile):
    board = Board.load(profile("sram_bytes = 16_384", "sram_bytes = 20_000"))
    assert (board.name, board.sram_bytes) == ("mine", 20_000)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("sram_bytes", "sram_byte", "unknown key 'sram_byte'; did you mean 'sram_bytes'"),
        ("sram_bytes = 16_384", "", "lacks sram_bytes"),
        ("sram_bytes = 16_384", 'sram_bytes = "16K"', "sram_bytes is '16K', expected int"),
        ("sram_bytes = 16_384", "sram_bytes = -1", "sram_bytes is -1, expected 0"),
        ("sram_bytes = 16_384", "sram_bytes = 0", "sram_bytes is 0, expected more than 0"),
        ("sram_bytes = 16_384", "sram_bytes = true", "sram_bytes is True, expected int"),
        ("sram_bytes = 16_384", "sram_bytes = 1_000_000_000", "more than 268,435,456"),
        ("flash_bytes", "flash_bytes = 1\nflash_bytes", "not valid TOML"),
        ("[cycles]", "[cycle]", r"no table \[cycles\]"),
        ("element = 220.0", "element = nan", "element is nan"),
        ("element = 220.0", "element = inf", "element is inf"),
        ("title", 'name = "x"\ntitle', "the name of a board is that of its file"),
        ("stack_bytes = 1_280", "stack_bytes = 16_384", "do not hold"),
        ("ring_bytes = 128", "ring_bytes = 100", "ring_bytes is 100, expected a power of two"),
        (
            "thread_stack_bytes = 832",
            "thread_stack_bytes = 60",
            "thread_stack_bytes is 60, expected a multiple",
        ),
        ("uart_irq = 2", 'uart_irq = "2"', r"\[port\]: uart_irq is '2', expected int"),
        ("uart_irq = 2", "uart_irk = 2", r"\[port\] has the unknown key 'uart_irk'; did you mean 'uart_irq'"),
        ('machine = "microbit"', "", r"\[emulator\] lacks machine"),
        ("[cycles]", "emulator = 1\n[cycles]", "not valid TOML"),
    ],
)
def test_a_bad_profile_gives_one_clear_error(profile, old, new, message):
    with pytest.raises(UsageError, match=message) as caught:
        Board.load(profile(old, new))
    assert "mine.toml" in caught.value.message


def test_a_missing_or_binary_profile(tmp_path):
    with pytest.raises(FormatError, match="no such file"):
        Board.load(tmp_path / "none.toml")
    path = tmp_path / "bad.toml"
    path.write_bytes(b"\xff\xfe\0")
    with pytest.raises(UsageError, match="not valid TOML"):
        Board.load(path)


def test_an_optional_table_is_a_table(tmp_path):
    text = (PROFILES / "rp2040.toml").read_text()
    path = tmp_path / "mine.toml"
    path.write_text(f"port = 1\n{text}")
    with pytest.raises(UsageError, match=r"port is 1, expected a table \[port\]"):
        Board.load(path)


def test_to_dict_is_plain():
    row = Board.load("microbit").to_dict()
    assert row["sram_bytes"] == 16 * KIB
    assert row["cycles"]["convolution_mac"] > 0
    assert row["port"]["uart"] == "nrf51" and row["emulator"] == {"machine": "microbit", "options": ""}
    assert "port" not in Board.load("rp2040").to_dict()


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8192", 8192),
        ("8KiB", 8192),
        ("8k", 8192),
        ("8 kB", 8000),
        ("1MiB", 1 << 20),
        ("1_000", 1000),
        (64, 64),
    ],
)
def test_parse_size(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "KiB", "8 GiB", "-1", "1.5K", "8XB", "0", "999999999999"])
def test_parse_size_refuses(text):
    with pytest.raises(UsageError):
        parse_size(text)
