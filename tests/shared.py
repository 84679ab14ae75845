"""Where the public reference models and image sets are, beside the checkout; they are not part of the project."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"

#: The int8 models among them.
INT8_MODELS = (
    "ad01_int8",
    "hello_world_int8",
    "kws_ref_model",
    "micro_speech_quantized",
    "mobilenet_v2_quantized_1x3x224x224",
    "person_detect",
    "pretrainedResnet_quant",
    "vww_96_int8",
)


def int8_path(name: str) -> Path:
    """One of the int8 models; the test is skipped where it is missing."""
    path = SHARED / "models" / f"{name}.tflite"
    if not path.is_file():
        pytest.skip(f"{path.name} is not there")
    return path


def int8_paths() -> list[Path]:
    """The int8 models that are there."""
    paths = [SHARED / "models" / f"{name}.tflite" for name in INT8_MODELS]
    return [path for path in paths if path.is_file()]
