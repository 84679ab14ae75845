from __future__ import annotations

import re
import shutil

import pytest

from tests.examples.running import FLOAT_MODEL, run_example

pytest.importorskip("sklearn", reason="scikit-learn is not installed")
pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")


@pytest.mark.skipif(shutil.which("cc") is None, reason="the delegate needs a C compiler")
def test_every_level_runs_in_both_modes(tmp_path):
    text = run_example("examples/stock_runtime.py", "--output", tmp_path, "--model", FLOAT_MODEL)
    rows = re.findall(r"level (\d): ([\d.]+)%", text)
    assert [level for level, _ in rows] == ["4", "6", "8"] * 2
    assert all(float(share) > 97 for _, share in rows)
