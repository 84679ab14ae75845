"""Boards in this process, with the device's side of the protocol in Python and in C."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from firmware_sim.board import Board
from firmware_sim.virtual_board import ProtocolMachine, VirtualBoard, loopback
from tests.models import NetworkBuilder, nested, random_inputs
from tests.tflnest.bridge.c_device import CDevice, build_library
from tflnest.bridge.device import Device, DeviceConfig
from tflnest.bridge.transport import LoopbackTransport
from tflnest.container import page_image
from tflnest.interpreter import Interpreter
from tflnest.model import Model

Machine = Callable[[DeviceConfig], ProtocolMachine]


@dataclass(frozen=True)
class Subject:
    """A small nested model, and what it must compute.

    Attributes:
        model: Levels 4, 6 and 8.
        inputs: Three samples.
        outputs: What the reference interpreter makes of them, by level.
    """

    model: Model
    inputs: NDArray[np.int8]
    outputs: Mapping[int, NDArray[np.int8]]

    @property
    def images(self) -> list[bytes]:
        """The pages."""
        assert self.model.directory is not None
        content = self.model.to_bytes()
        return [page_image(content, page) for page in self.model.directory.pages]


@pytest.fixture(scope="session")
def subject() -> Subject:
    net = NetworkBuilder(4)
    y = net.convolution(net.start((1, 2, 2, 4)), 8, kernel=1, name="a")
    model = nested(net.finish(net.dense(net.flatten(y), 24, name="b")))
    inputs = random_inputs(model, 3)
    outputs = {level: Interpreter(model=model, level=level).run(inputs) for level in (4, 6, 8)}
    assert len({value.tobytes() for value in outputs.values()}) == 3
    return Subject(model, inputs, outputs)


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The protocol of the runtime, compiled for this machine."""
    return build_library(tmp_path_factory.mktemp("protocol"))


@pytest.fixture(params=["python", "c"])
def machine(request: pytest.FixtureRequest) -> Machine:
    """The device's side of the protocol: every test that uses it runs for both."""
    if request.param == "python":
        return Device
    compiled = request.getfixturevalue("library")
    return lambda config: CDevice(compiled, config)


Pair = tuple[VirtualBoard, LoopbackTransport]
MakeBoard = Callable[..., Pair]


@pytest.fixture
def make_board(subject: Subject, machine: Machine) -> MakeBoard:
    """Makes a board with the subject in it, and the line to it."""

    def make(frame_bytes: int = 256, board: Board | None = None, **options: object) -> Pair:
        chosen = board or Board.load("nrf52840")
        return loopback(subject.model, chosen, frame_bytes=frame_bytes, machine=machine, **options)  # type: ignore[arg-type]

    return make
