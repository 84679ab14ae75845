"""A virtual board before any model has come."""

from __future__ import annotations

from firmware_sim.board import Board
from tflnest.bridge.device import DeviceOperator, DevicePage, DeviceTensor, Status

_IDENTITY_BYTES = 32


class NoModel:
    """A `tflnest.bridge.device.DeviceModel` with nothing in it.

    Args:
        board: The board.
        port_bytes: SRAM of the serial port's buffers.
    """

    identity = bytes(_IDENTITY_BYTES)
    levels: tuple[int, ...] = ()
    pages: tuple[DevicePage, ...] = ()
    operators: tuple[DeviceOperator, ...] = ()
    inputs: tuple[DeviceTensor, ...] = ()
    outputs: tuple[DeviceTensor, ...] = ()

    def __init__(self, board: Board, port_bytes: int) -> None:
        self._free_bytes = board.sram_bytes - board.stack_bytes - port_bytes

    def resident(self) -> int:
        """See `DeviceModel`."""
        return 0

    def level(self) -> int:
        """See `DeviceModel`."""
        return 0

    def operator_level(self, row: int) -> int:
        """See `DeviceModel`."""
        return 0

    def free_sram(self) -> int:
        """See `DeviceModel`."""
        return self._free_bytes

    def page_begin(self, page: int, offset: int) -> Status:
        """See `DeviceModel`."""
        return Status.ERROR_PAGE

    def page_write(self, page: int, offset: int, content: bytes) -> Status:
        """See `DeviceModel`."""
        return Status.ERROR_PAGE

    def page_end(self, page: int, crc32: int) -> Status:
        """See `DeviceModel`."""
        return Status.ERROR_PAGE

    def page_out(self, page: int) -> Status:
        """See `DeviceModel`."""
        return Status.ERROR_PAGE

    def page_image(self, page: int) -> bytes | None:
        """See `DeviceModel`."""
        return None

    def page_found(self, page: int) -> int:
        """See `DeviceModel`."""
        return 0

    def set_level(self, level: int) -> Status:
        """See `DeviceModel`."""
        return Status.ERROR_LEVEL

    def set_operator_level(self, row: int, level: int) -> Status:
        """See `DeviceModel`."""
        return Status.ERROR_LEVEL

    def invoke(self) -> Status:
        """See `DeviceModel`."""
        return Status.ERROR_RESIDENT

    def restart(self) -> None:
        """There is nothing to start."""

    def lose_power(self) -> None:
        """There is nothing to lose."""
