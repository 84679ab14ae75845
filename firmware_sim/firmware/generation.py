"""Generate firmware from a model: plan it, refuse what does not fit, write the project."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firmware_sim.board import Board
from firmware_sim.board_port import port_of
from firmware_sim.firmware.plan import FirmwarePlan, Options, core_of, plan_firmware
from firmware_sim.firmware.project import (
    MANIFEST_VERSION,
    Project,
    board_project,
    component_project,
)
from tflnest.model import Model


@dataclass(frozen=True)
class Firmware:
    """What was generated.

    Attributes:
        plan: What was decided.
        board: What it runs on; None for a component.
        project: The files.
    """

    plan: FirmwarePlan
    board: Board | None
    project: Project


def generate(
    model: Model | str | Path,
    board: Board | str | Path,
    options: Options | None = None,
    *,
    component: bool = False,
    title: str | None = None,
) -> Firmware:
    """Make firmware for a board, or a component for its processor, without writing anything.

    Args:
        model: A model, nested or plain int8, or its path.
        board: A board, its name, or the path of a profile.
        options: Choices; the defaults where none are given.
        component: Make C files without `main` and port.
        title: Name of the model, for the README; None for the name of its file.

    Raises:
        DoesNotFitError: The board's memory is too small.
        UnsupportedError: The device runtime lacks operators; the message names every one of them.
        UsageError: The model has no such level, or the board no port.
        FormatError: The model is corrupt.
    """
    loaded = model if isinstance(model, Model) else Model.load(model)
    name = title or ("model" if isinstance(model, Model) else Path(model).stem)
    chosen = board if isinstance(board, Board) else Board.load(board)
    wanted = options or Options()
    plan = plan_firmware(loaded, core_of(chosen), wanted)
    manifest: dict[str, Any] = {"manifest_version": MANIFEST_VERSION}
    if component:
        return Firmware(plan, None, component_project(plan, name, manifest, ""))
    port_of(chosen)
    return Firmware(plan, chosen, board_project(plan, chosen, name, manifest, ""))
