"""Images of exported self-tests that users built, with the tools and for the boards that they have."""

from __future__ import annotations

import json
import os
from pathlib import Path

#: Seconds after which a program that says nothing more has failed.
PATIENCE_S = 60.0

#: What a self-test ends with.
LAST_LINES = ("all is well\n", "NOT the outputs that were expected\n")


def build_folders(variable: str) -> list[Path | None]:
    """The folders that an environment variable names; None alone where it names none."""
    return [Path(item) for item in os.environ.get(variable, "").split(os.pathsep) if item] or [None]


def expected(component: Path) -> str:
    """What the self-test of an exported folder must print, from the manifest of the folder."""
    manifest = json.loads((component / "firmware.json").read_text())
    levels = manifest["levels"]
    rows = [
        f"level {level}: outputs {manifest['checks'][str(level)]}, as expected\n"
        for level in [*levels, *reversed(levels[:-1])]
    ]
    return "".join([*rows, LAST_LINES[0]])
