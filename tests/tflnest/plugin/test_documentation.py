"""The examples in the documentation run as they stand there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tflnest
from tests.models import nested, network
from tests.shared import ROOT

DOCUMENT = ROOT / "docs" / "delegate.md"
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


def examples() -> list[str]:
    texts = [path.read_text(encoding="utf-8") for path in (DOCUMENT, ROOT / "README.md")]
    words = ("load_delegate", "stock_interpreter")
    return [block for text in texts for block in BLOCK.findall(text) if any(word in block for word in words)]


@pytest.mark.parametrize("number", range(len(examples())))
def test_an_example_runs(number: int, tmp_path: Path) -> None:
    nested(network()).save(tmp_path / "nested.tflite")
    shutil.copy(tflnest.delegate_path(), tmp_path / "libtflnest.so")
    code = examples()[number] + "interpreter.allocate_tensors()\ninterpreter.invoke()\nprint('done')\n"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("done\n")


def test_the_document_and_the_readme_have_examples() -> None:
    assert len(examples()) >= 5


def test_the_options_are_those_of_the_library() -> None:
    source = (ROOT / "tflnest/runtime/plugin/tflnest_delegate.c").read_text(encoding="ascii")
    options = re.search(r'#define OPTIONS "(.*)"', source)[1].split(", ")
    table = re.findall(
        r"^\| `(\w+)` \| (?:1 to 8|`speed`, `memory`|a number from 1) ", DOCUMENT.read_text(), re.M
    )
    assert table == options
