"""What the README says is true."""

from __future__ import annotations

import re

from click.testing import CliRunner

from firmware_sim.board import Board, list_boards
from tests.shared import ROOT
from tflnest.cli.application import cli
from tflnest.kernels import supported_operators

README = (ROOT / "README.md").read_text(encoding="utf-8")


def row(title: str) -> str:
    """A row of the table of what is supported."""
    match = re.search(rf"^\| {re.escape(title)} \| (.*) \|$", README, re.MULTILINE)
    assert match is not None, title
    return match[1]


def test_the_operators_are_those_that_run() -> None:
    assert row("Operators of the reference engine, int8").split(", ") == list(supported_operators())


def test_the_boards_are_those_that_come_with_the_package() -> None:
    assert row("Boards").split(";")[0].split(", ") == list_boards()


def test_the_emulated_boards_are_those_with_an_emulator() -> None:
    names = [name for name in list_boards() if Board.load(name).emulator is not None]
    assert row("Boards emulated by QEMU").split(", ") == names


def test_the_verbs_exist_and_their_options_too() -> None:
    lines = re.findall(r"^    tflnest (\S+) (.*)$", README, re.MULTILINE)
    assert {verb for verb, _ in lines} >= {"convert", "inspect", "eval", "simulate", "materialize", "compare"}
    for verb, rest in lines:
        text = CliRunner().invoke(cli, [verb, "--help"]).output
        for option in re.findall(r"--[a-z-]+", rest):
            assert option in text, f"tflnest {verb} {option}"


def test_every_link_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
