from __future__ import annotations

import hashlib
import json

import pytest

from firmware_sim.arena import plan_arena
from firmware_sim.inspection import inspect
from tests.firmware_sim.builder import SCALE, BoardBuilder
from tflnest.errors import FormatError, UsageError
from tflnest.model import Model


def report(*args):
    return json.loads(json.dumps(inspect(*args).to_dict()))


def test_a_plain_model(plain_cnn, tmp_path):
    path = tmp_path / "cnn.tflite"
    plain_cnn.save(path)
    found = report(path, "microbit")
    assert found["schema_version"] == 1
    content = path.read_bytes()
    assert found["file"]["bytes"] == len(content)
    assert found["file"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert found["file"]["identity"] is None
    assert found["operators"] == {
        "CONV_2D": 2,
        "MAX_POOL_2D": 1,
        "RESHAPE": 1,
        "FULLY_CONNECTED": 1,
        "SOFTMAX": 1,
    }
    (level,) = found["levels"]
    assert level["page_bytes"] == level["resident_bytes"] > 0
    assert level["needs"]["flash"]["fits"]
    assert found["pages"] == []
    assert found["inputs"][0]["shape"] == [1, 12, 12, 4]
    assert found["inputs"][0]["scale"] == pytest.approx(SCALE)
    assert found["outputs"][0]["zero_point"] == -128
    plan = plan_arena(plain_cnn)
    assert found["arena"]["head_bytes"] == plan.head_bytes
    assert found["arena"]["tail_bytes"] == plan.tail_bytes
    assert found["arena"]["minimum_bytes"] == plan.minimum_bytes


def test_a_nested_model(nested_cnn):
    found = report(nested_cnn, "microbit")
    pages = nested_cnn.directory.pages
    assert found["file"]["identity"] == nested_cnn.directory.identity.hex()
    assert [level["page_bytes"] for level in found["levels"]] == [page.size for page in pages]
    assert [page["crc32"] for page in found["pages"]] == [f"{page.crc32:08x}" for page in pages]
    assert found["recipe"] == nested_cnn.directory.recipe
    assert found["tensors"]["nested"] == len(found["nested"]) > 0
    assert found["tensors"]["nested"] + found["tensors"]["flat"] == 3
    assert found["nested"][0]["model_bits"] == [4, 6, 8]
    for level in found["levels"]:
        assert set(level["needs"]) == {"flash", "host"}


def test_without_a_board_nothing_is_said_about_fitting(nested_cnn):
    found = report(nested_cnn)
    assert found["board"] is None
    assert all("needs" not in level for level in found["levels"])
    assert found["arena"]["target"].startswith("32-bit")


def test_shortage_is_reported_and_not_raised(plain_cnn):
    big = BoardBuilder()
    model = big.model(big.conv(big.input((1, 64, 64, 8), scale=SCALE), 8))
    (level,) = report(model, "stm32vldiscovery")["levels"]
    needs = level["needs"]["flash"]
    assert not needs["fits"]
    assert needs["sram_short_bytes"] == needs["sram_bytes"] - 8192 > 0


def test_bad_arguments(plain_cnn, tmp_path):
    with pytest.raises(UsageError, match="there is no board"):
        inspect(plain_cnn, "zx81")
    with pytest.raises(FormatError, match="no such file"):
        inspect(tmp_path / "none.tflite")
    path = tmp_path / "bad.tflite"
    path.write_bytes(b"nonsense" * 8)
    with pytest.raises(FormatError):
        inspect(path)


def test_a_model_without_filters_or_quantization():
    builder = BoardBuilder()
    x = builder.input((1, 8), "FLOAT32")
    y = builder.tensor((1, 8), "FLOAT32")
    builder.operator("RELU", (x,), (y,))
    found = report(builder.model(y))
    (level,) = found["levels"]
    assert (level["level"], level["page_bytes"], level["bits_per_weight"]) == (8, 0, 0.0)
    assert found["inputs"][0]["scale"] is None


@pytest.mark.shared
@pytest.mark.parametrize("name", ["person_detect", "mobilenet_v2_quantized_1x3x224x224", "vww_96_float"])
def test_public_models(shared_models, name):
    found = report(shared_models / f"{name}.tflite", "nrf52840")
    plan = plan_arena(Model.load(shared_models / f"{name}.tflite"))
    assert found["arena"]["total_bytes"] == plan.total_bytes
    assert found["arena"]["unknown_kernels"] == []
