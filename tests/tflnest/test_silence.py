from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shared import ROOT
from tflnest.silence import silenced

DESCRIPTORS = Path("/proc/self/fd")
SCRIPT = """
import os, sys, warnings
from tflnest.silence import silenced
print("before")
try:
    with silenced():
        print("python")
        os.write(1, b"native")
        os.write(2, b"native error")
        print("python error", file=sys.stderr)
        warnings.warn("careful")
        raise ValueError("inside")
except ValueError as error:
    print("after", error)
print("heard", file=sys.stderr)
"""


def test_python_and_native_output_vanish_and_come_back():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert (done.stdout, done.stderr) == ("before\nafter inside\n", "heard\n")


def test_it_ends_with_an_error_too(capfd):
    with pytest.raises(ValueError, match="inside"), silenced():
        os.write(1, b"lost\n")
        raise ValueError("inside")
    os.write(2, b"heard\n")
    assert capfd.readouterr() == ("", "heard\n")


@pytest.mark.skipif(not DESCRIPTORS.is_dir(), reason="the system does not list open descriptors")
def test_no_descriptor_is_left_open():
    before = len(list(DESCRIPTORS.iterdir()))
    for _ in range(20):
        with silenced():
            pass
    assert len(list(DESCRIPTORS.iterdir())) == before


def test_closed_streams_do_not_matter(monkeypatch, capfd):
    monkeypatch.setattr(sys, "stdout", None)
    with silenced():
        os.write(1, b"native\n")
    assert capfd.readouterr() == ("", "")
