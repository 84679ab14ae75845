"""Small files for every verb, and a way to run a command line in this process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firmware_sim.board import Board
from firmware_sim.virtual_board import VirtualBoard, VirtualPort
from tests.models import NetworkBuilder, everything, nested, network
from tests.single_operator import GraphBuilder
from tflnest.cli import run
from tflnest.model import Model

BOARD = "nrf52840"


@dataclass(frozen=True)
class Files:
    """What the tests of the command line start from.

    Attributes:
        folder: The folder of all of them.
        int8: A plain int8 network, 8 x 8 x 3 to 10 classes.
        nested: The same, nested in the levels 4, 6 and 8.
        float: A float network of the same shapes.
        data: 40 samples `x` with labels `y`.
        two_inputs: A model with two inputs.
        firmware: Where a test may put firmware that it builds.
    """

    folder: Path
    int8: Path
    nested: Path
    float: Path
    data: Path
    two_inputs: Path
    firmware: Path


def float_network() -> bytes:
    """conv 3x3 -> relu -> flatten -> fully connected, in float."""
    rng = np.random.default_rng(5)
    graph = GraphBuilder()
    x = graph.input((1, 8, 8, 3), "FLOAT32")
    filters = graph.constant(rng.normal(size=(16, 3, 3, 3)).astype(np.float32) * 0.3)
    bias = graph.constant(np.zeros(16, np.float32))
    y = graph.tensor((1, 4, 4, 16), "FLOAT32")
    graph.operator(
        "CONV_2D",
        [x, filters, bias],
        [y],
        padding="SAME",
        stride_w=2,
        stride_h=2,
        dilation_w_factor=1,
        dilation_h_factor=1,
        fused_activation_function="RELU",
    )
    flat = graph.tensor((1, 256), "FLOAT32")
    graph.operator("RESHAPE", [y, graph.constant(np.array([1, 256], np.int32))], [flat], new_shape=[1, 256])
    weights = graph.constant(rng.normal(size=(10, 256)).astype(np.float32) * 0.1)
    out = graph.tensor((1, 10), "FLOAT32")
    graph.operator("FULLY_CONNECTED", [flat, weights, graph.constant(np.zeros(10, np.float32))], [out])
    return graph.build([out])


def two_input_network() -> bytes:
    """Two int8 inputs, added."""
    graph = GraphBuilder()
    a, b = (graph.input((1, 4), "INT8", 0.5) for _ in range(2))
    y = graph.tensor((1, 4), "INT8", 0.5)
    graph.operator("ADD", [a, b], [y])
    return graph.build([y])


def wide_network(seed: int = 0) -> Model:
    """A network whose filters dwarf everything else: 1x1 convolutions of 64 to 128 channels."""
    net = NetworkBuilder(seed)
    y = net.convolution(net.start((1, 8, 8, 3)), 64, name="stem")
    y = net.convolution(y, 128, kernel=1, stride=2, name="middle")
    y = net.convolution(y, 128, kernel=3, stride=4, name="late")
    return net.finish(net.dense(net.flatten(y), 10, name="head"))


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The small files; tests must not change them."""
    folder = tmp_path_factory.mktemp("files")
    result = Files(
        folder,
        *(
            folder / name
            for name in (
                "int8.tflite",
                "nested.tflite",
                "float.tflite",
                "data.npz",
                "two.tflite",
                "firmware.elf",
            )
        ),
    )
    model = network()
    model.save(result.int8)
    nested(model, everything()).save(result.nested)
    result.float.write_bytes(float_network())
    result.two_inputs.write_bytes(two_input_network())
    rng = np.random.default_rng(1)
    x = rng.uniform(-5, 5, (40, 8, 8, 3)).astype(np.float32)
    np.savez(result.data, x=x, y=np.arange(40) % 10)
    np.savez(folder / "other.npz", x=rng.uniform(-5, 5, x.shape).astype(np.float32), y=np.arange(40) % 10)
    return result


@pytest.fixture(scope="session")
def virtual_port(files: Files) -> Iterator[VirtualPort]:
    """A virtual board with the nested model, at a TCP port of this machine."""
    virtual = VirtualBoard(Model.load(files.nested), Board.load(BOARD))
    with VirtualPort(virtual, tcp_port=0) as port:
        yield port


@dataclass(frozen=True)
class Outcome:
    """What a command line did: exit code, stdout and stderr."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The document on stdout."""
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        """The error of the document on stderr."""
        document = json.loads(self.err)
        assert document["schema_version"] == 1
        return document["error"]


Call = Callable[..., Outcome]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs a command line in this process."""

    def runner(*arguments: object) -> Outcome:
        code = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return runner
