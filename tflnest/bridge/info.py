"""What a board tells of itself, and of the pages that it holds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tflnest.bridge.messages import (
    NO_PAGE,
    WHOLE_MODEL,
    DeviceRow,
    ModelRow,
    OperatorRow,
    PageRow,
    Place,
    StateRow,
    StatisticsRow,
    TensorRow,
    version_text,
)
from tflnest.errors import DeviceError
from tflnest.graph import Quantization, Tensor
from tflnest.schema import enum_names


@dataclass(frozen=True)
class PageCheck:
    """Whether a page on the board is what it must be.

    Attributes:
        page: Index.
        level: The level that it completes.
        resident: Whether it is resident.
        expected_crc32: CRC-32 that it must have.
        crc32: CRC-32 that the board computed over its memory; None where it is not resident.
    """

    page: int
    level: int
    resident: bool
    expected_crc32: int
    crc32: int | None

    @property
    def sound(self) -> bool:
        """Whether the page is resident and undamaged, or absent."""
        return not self.resident or self.crc32 == self.expected_crc32


@dataclass(frozen=True)
class BoardInfo:
    """Everything that a board tells of itself.

    Attributes:
        device: The board and its firmware.
        model: The model that the firmware was made for.
        state: What changes.
        pages: Its pages.
        inputs: Inputs of the model.
        outputs: Outputs of the model.
        operators: Operators with levels.
        statistics: Counters.
        description_room: Most bytes of a model that a board without one takes; None where it has one.
    """

    device: DeviceRow
    model: ModelRow
    state: StateRow
    pages: tuple[PageRow, ...]
    inputs: tuple[TensorRow, ...]
    outputs: tuple[TensorRow, ...]
    operators: tuple[OperatorRow, ...]
    statistics: StatisticsRow
    description_room: int | None = None

    @property
    def board(self) -> str:
        """Name of the board."""
        return self.device.board.rstrip(b"\0").decode("utf-8", "replace")

    @property
    def runtime_version(self) -> str:
        """Version of the runtime in the firmware."""
        return version_text(self.device.runtime_version)

    @property
    def identity(self) -> str:
        """Identity of the model, hexadecimal."""
        return self.model.identity.hex()

    @property
    def levels(self) -> tuple[int, ...]:
        """Levels of the model, lowest first."""
        return tuple(self.model.levels[: self.model.level_count])

    @property
    def level(self) -> int | None:
        """The level that the board runs at; None where operators have levels of their own, or none can run."""
        return self.state.level or None

    @property
    def resident_pages(self) -> tuple[int, ...]:
        """Pages that are resident."""
        return tuple(index for index in range(self.model.page_count) if self.state.resident >> index & 1)

    def to_dict(self) -> dict[str, Any]:
        """For a report in JSON."""
        transfer = None
        if self.state.transfer_page != NO_PAGE:
            page = None if self.state.transfer_page == WHOLE_MODEL else self.state.transfer_page
            transfer = {"page": page, "offset": self.state.transfer_offset}
        return {
            "board": self.board,
            "protocol_version": self.device.protocol_version,
            "runtime_version": self.runtime_version,
            "frame_bytes": self.device.frame_bytes,
            "window_bytes": self.device.window_bytes,
            "stall_milliseconds": self.device.stall_milliseconds,
            "identity": self.identity,
            "levels": list(self.levels),
            "level": self.level,
            "resident_pages": list(self.resident_pages),
            "free_sram_bytes": self.state.free_sram,
            "description_room_bytes": self.description_room,
            "transfer": transfer,
            "pages": [
                {
                    "page": index,
                    "level": row.level,
                    "place": Place(row.place).name.lower() if row.place in tuple(Place) else row.place,
                    "resident": bool(row.resident),
                    "size_bytes": row.size,
                    "crc32": f"{row.crc32:08x}",
                    "capacity_bytes": row.capacity,
                }
                for index, row in enumerate(self.pages)
            ],
            "operators": [
                {"operator": row.operator, "level": row.level, "levels": list(row.levels[: row.level_count])}
                for row in self.operators
            ],
            "inputs": [_tensor_dict(row) for row in self.inputs],
            "outputs": [_tensor_dict(row) for row in self.outputs],
            "statistics": asdict(self.statistics),
        }


def _shape(row: TensorRow) -> tuple[int, ...]:
    return tuple(int(extent) for extent in np.frombuffer(row.shape, "<i4")[: row.rank])


def remote_tensor(index: int, row: TensorRow) -> Tensor:
    """A tensor of the board as the graph describes tensors."""
    scale = np.array([row.scale], "<u4").view("<f4").astype(np.float32)
    quantization = Quantization(scale, np.array([row.zero_point], np.int64)) if row.scale else None
    kind = enum_names("TensorType").get(row.type, str(row.type))
    tensor = Tensor(index, "", _shape(row), _shape(row), kind, quantization, 0)
    if tensor.bytes != row.size or min(tensor.shape, default=1) < 1:
        raise DeviceError(
            f"the board says that tensor {index} of type {kind} and shape {list(tensor.shape)} has {row.size:,} bytes"
        )
    return tensor


def _tensor_dict(row: TensorRow) -> dict[str, Any]:
    tensor = remote_tensor(0, row)
    return {
        "type": tensor.type,
        "shape": list(tensor.shape),
        "size_bytes": row.size,
        "scale": tensor.scale,
        "zero_point": row.zero_point,
    }
