"""Nested files in TensorFlow Lite Micro: the source component that applications compile."""

from __future__ import annotations

from pathlib import Path

from tflnest.device.sources import component_files


def component_sources() -> dict[str, Path]:
    """All files of the component, by their places in its folder.

    The folder itself is its only folder of headers; TFLM's own ones are needed beside it. Files that end in `.c` are
    C99, those in `.cc` C++17 without exceptions and run-time types. An application includes "tflnest_tflm.h" for the
    nested operators, or "tflnest_tflm_decode.h" for the exports of `tflnest.export_planes`.

    Returns:
        Where each file lies in the installation, by its name in the component: "tflnest_tflm.cc",
        "tflnest/tflnest_types.h" and so on.
    """
    return component_files()
