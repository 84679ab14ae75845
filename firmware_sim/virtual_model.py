"""A model in the memories of a board, as the serial protocol sees it: pages come and go byte by byte.

Every page has its place in an `Sram` or a `Flash` of the board's size, the interpreter reads weights from
nowhere else, and what does not fit is refused with the numbers.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

import numpy as np

from firmware_sim.arena import plan_arena
from firmware_sim.board import Board
from firmware_sim.fitting import RUNTIME_FLASH_BYTES
from firmware_sim.memory import Flash, Sram
from firmware_sim.pager import PAGE_ALIGNMENT, Placement
from firmware_sim.sectors import MARK_BYTES, PageRoom
from firmware_sim.simulation import ARENA_REGION, STACK_REGION
from firmware_sim.target import align_up
from tflnest.bridge.device import DeviceOperator, DevicePage, DeviceTensor, Status
from tflnest.bridge.messages import MAX_DIMENSIONS, Place
from tflnest.container import Directory, Page
from tflnest.errors import DoesNotFitError, UnsupportedError, UsageError
from tflnest.graph import Tensor
from tflnest.interpreter import Interpreter
from tflnest.model import Model
from tflnest.nested import NestedOperator, nested_operators
from tflnest.pages import FilePages, PageNotResidentError
from tflnest.schema import enum_value

PORT_REGION = "serial port"
#: What an input holds after a run: as on a board, its memory was used for something else.
USED = 0xA5

_PLACES = {
    Placement.FLASH: Place.FLASH,
    Placement.SRAM: Place.SRAM,
    Placement.HOST: Place.HOST,
}


class VirtualModel:
    """A `DeviceModel` that runs in the reference interpreter.

    The base page is in the flash from the start; so are the other pages with `Placement.FLASH`. With
    `Placement.SRAM` or `Placement.HOST` they arrive over the line, into SRAM.

    Args:
        model: A nested model.
        board: Gives the sizes of the memories.
        placement: Where the lower-bit pages rest.
        empty: Whether the board starts without any page: the base page arrives over the line too, into flash, with
            `Placement.SRAM` into SRAM.
        port_bytes: SRAM of the serial port's buffers.
        sectors: Whether the lower-bit pages arrive over the line where they rest in flash, too.

    Raises:
        UsageError: The model is not nested.
        UnsupportedError: An input or output has more dimensions than the protocol can say.
        DoesNotFitError: The board holds not even the arena, or not the pages that are there from the start.
    """

    def __init__(
        self,
        model: Model,
        board: Board,
        placement: Placement | str = Placement.HOST,
        empty: bool = False,
        port_bytes: int = 0,
        sectors: bool = False,
    ) -> None:
        if model.directory is None:
            raise UsageError("the model is not nested, so it has no pages", "nest it: tflnest convert")
        self._model = model
        self._directory: Directory = model.directory
        self._board = board
        self._placement = Placement(placement)
        self._empty = empty
        self._sectors = sectors
        self._port_bytes = port_bytes
        self._arena_bytes = plan_arena(model, board.target).needed_bytes
        self._nested = [item for subgraph, item in nested_operators(model.graph) if subgraph.index == 0]
        self._resident: set[int] = set()
        self._written: dict[int, int] = {}
        self._levels: list[int] = []
        self._level = 0
        self._engine: Interpreter | None = None
        self._pages: list[DevicePage] | None = None  # as they are until the SRAM is divided anew
        self.sram = Sram(board.sram_bytes, board.sram_base)
        self.flash = Flash(
            board.flash_bytes, board.flash_base, board.flash_sector_bytes, board.flash_program_bytes
        )
        self._rooms = self._lay_out_flash()
        self._unprepared: set[int] = set()
        self._inputs = [_tensor(tensor) for tensor in model.graph.main.input_tensors()]
        self._outputs = [_tensor(tensor) for tensor in model.graph.main.output_tensors()]
        self._allocate_fixed()
        self._program_constants()
        self._choose_level()

    # ----------------------------------------------------------------------------------- what it is

    @property
    def identity(self) -> bytes:
        """See `DeviceModel`."""
        return self._directory.identity

    @property
    def levels(self) -> tuple[int, ...]:
        """See `DeviceModel`."""
        return self._directory.levels

    @property
    def pages(self) -> Sequence[DevicePage]:
        """See `DeviceModel`."""
        if self._pages is None:
            self._pages = [
                DevicePage(
                    page.level,
                    _PLACES[self._place(page.index)],
                    page.size,
                    page.crc32,
                    self._capacity(page.index),
                )
                for page in self._directory.pages
            ]
        return self._pages

    @property
    def operators(self) -> Sequence[DeviceOperator]:
        """See `DeviceModel`."""
        return [DeviceOperator(item.operator.index, item.nesting.levels) for item in self._nested]

    @property
    def inputs(self) -> Sequence[DeviceTensor]:
        """See `DeviceModel`."""
        return self._inputs

    @property
    def outputs(self) -> Sequence[DeviceTensor]:
        """See `DeviceModel`."""
        return self._outputs

    def resident(self) -> int:
        """See `DeviceModel`."""
        return sum(1 << page for page in self._resident)

    def level(self) -> int:
        """See `DeviceModel`."""
        return self._level

    def operator_level(self, row: int) -> int:
        """See `DeviceModel`."""
        return self._levels[row]

    def free_sram(self) -> int:
        """See `DeviceModel`."""
        return self.sram.free_bytes

    # ---------------------------------------------------------------------------------------- pages

    def read(self, page: int) -> bytes:
        """The image of a resident page, for the interpreter; see `tflnest.pages.PageSource`."""
        image = self.page_image(page)
        if page not in self._resident or image is None:
            raise PageNotResidentError(page, self._directory.pages[page].level)
        return image

    def page_begin(self, page: int, offset: int) -> Status:
        """See `DeviceModel`."""
        room = self._rooms.get(page)
        if offset == 0:
            self._release(page)
            try:
                self._make_room(self._directory.pages[page])
            except DoesNotFitError:
                return Status.ERROR_SIZE
        elif room is not None:
            if not room.accepts(offset):
                return Status.ERROR_ARGUMENT
            self._unprepared.add(page)
        self._written[page] = offset
        return Status.OK

    def page_write(self, page: int, offset: int, content: bytes) -> Status:
        """See `DeviceModel`."""
        if self._written.get(page) != offset:
            return Status.ERROR_ARGUMENT
        room = self._rooms.get(page)
        if room is None:
            self.sram.write(_slot(page), content, offset)
        else:
            if page in self._unprepared:  # a start alone erases nothing
                self._unprepared.remove(page)
                room.erase(offset)
            status = room.program(offset, content)
            if status != Status.OK:
                del self._written[page]
                return status
        self._written[page] = offset + len(content)
        return Status.OK

    def page_end(self, page: int, crc32: int) -> Status:
        """See `DeviceModel`."""
        entry = self._directory.pages[page]
        if self._written.pop(page, None) != entry.size:
            return Status.ERROR_SIZE
        if crc32 != entry.crc32:
            self._release(page)
            return Status.ERROR_CRC
        self._resident.add(page)
        self._engine = None
        if self._level == 0:
            self._choose_level()
        return Status.OK

    def page_out(self, page: int) -> Status:
        """See `DeviceModel`."""
        if page in self._resident and self._is_needed(page):
            return Status.ERROR_IN_USE
        if page in self._rooms and (page in self._resident or self._written.get(page)):
            self._rooms[page].drop()
        self._release(page)
        return Status.OK

    def page_image(self, page: int) -> bytes | None:
        """See `DeviceModel`."""
        if page in self._rooms:
            return self._rooms[page].image
        return self.sram.read_region(_slot(page)) if _slot(page) in self.sram else None

    def page_found(self, page: int) -> int:
        """See `DeviceModel`."""
        return self._rooms[page].find() if page in self._rooms and page not in self._resident else 0

    def damage(self, page: int, offset: int, mask: int = 1) -> None:
        """Flip bits of a page where it lies, as a fault of the memory would; for tests.

        Args:
            page: Index; it must be in SRAM.
            offset: Byte of the image.
            mask: Bits to flip.
        """
        byte = self.sram.read_region(_slot(page))[offset]
        self.sram.write(_slot(page), bytes([byte ^ mask]), offset)
        self._engine = None

    def restart(self) -> None:
        """What start-up code does after a reset: SRAM kept its bytes, and a page stays only where its CRC-32 is right."""
        self._written.clear()
        self._unprepared.clear()
        self._engine = None
        self._resident = {page.index for page in self._directory.pages if self._is_sound(page)}
        self._level = 0
        self._choose_level()

    def lose_power(self) -> None:
        """SRAM forgets everything, flash nothing."""
        self.sram = Sram(self._board.sram_bytes, self._board.sram_base)
        self._allocate_fixed()
        self.restart()

    # ----------------------------------------------------------------------------------------- runs

    def set_level(self, level: int) -> Status:
        """See `DeviceModel`."""
        if level not in self.levels:
            return Status.ERROR_LEVEL
        position = self.levels.index(level)
        if not all(page in self._resident for page in range(position + 1)):
            return Status.ERROR_RESIDENT
        self._levels = [item.level_at(position) for item in self._nested]
        self._level = level
        return self._apply()

    def set_operator_level(self, row: int, level: int) -> Status:
        """See `DeviceModel`."""
        item = self._nested[row]
        if level not in item.nesting.levels:
            return Status.ERROR_LEVEL
        if not all(page in self._resident for page in range(_page_of(item, level) + 1)):
            return Status.ERROR_RESIDENT
        self._levels[row] = level
        self._level = self._whole_level()
        return self._apply()

    def invoke(self) -> Status:
        """See `DeviceModel`."""
        if 0 not in self._resident:
            return Status.ERROR_RESIDENT
        engine = self._ready_engine()
        for detail, tensor in zip(engine.get_input_details(), self._inputs, strict=True):
            value = np.frombuffer(bytes(tensor.data), detail["dtype"]).reshape(tensor.shape)
            engine.set_tensor(detail["index"], value)
        engine.invoke()
        for detail, tensor in zip(engine.get_output_details(), self._outputs, strict=True):
            tensor.data[:] = engine.get_tensor(detail["index"]).tobytes()
        for tensor in self._inputs:
            tensor.data[:] = bytes([USED]) * len(tensor.data)
        return Status.OK

    # -------------------------------------------------------------------------------------- details

    def _allocate_fixed(self) -> None:
        self._pages = None
        self.sram.allocate(STACK_REGION, self._board.stack_bytes)
        self.sram.allocate(PORT_REGION, self._port_bytes)
        self.sram.allocate(ARENA_REGION, self._arena_bytes)

    def _lay_out_flash(self) -> dict[int, PageRoom]:
        """The pages that rest in flash, each in sectors of its own."""
        rooms, position = {}, RUNTIME_FLASH_BYTES
        for page in self._directory.pages:
            if self._place(page.index) is Placement.FLASH:
                position = align_up(position, max(self._board.flash_sector_bytes, PAGE_ALIGNMENT))
                rooms[page.index] = PageRoom(self.flash, position, page.size)
                position += page.size + MARK_BYTES
        if position > self._board.flash_bytes:
            raise DoesNotFitError(
                f"{self._board.name}: runtime and pages need {position:,} bytes of flash, and there are "
                f"{self._board.flash_bytes:,}: short by {position - self._board.flash_bytes:,} bytes",
                memory="flash",
                needed_bytes=position,
                available_bytes=self._board.flash_bytes,
            )
        return rooms

    def _program_constants(self) -> None:
        """What the firmware brings along."""
        images = FilePages(self._model.to_bytes(), self._directory)
        for page, room in self._rooms.items():
            if not self._empty and not (page and self._sectors):
                room.program(0, images.read(page))
                self._resident.add(page)

    def _place(self, page: int) -> Placement:
        if page or (self._empty and self._placement is Placement.SRAM):
            return self._placement
        return Placement.FLASH

    def _capacity(self, page: int) -> int:
        size = self._directory.pages[page].size
        if page in self._rooms or _slot(page) in self.sram:
            return size
        return self.sram.largest_gap_bytes

    def _make_room(self, page: Page) -> None:
        self._pages = None
        if page.index in self._rooms:
            self._rooms[page.index].erase(0)
        else:
            self.sram.allocate(_slot(page.index), page.size)

    def _release(self, page: int) -> None:
        self._resident.discard(page)
        self._unprepared.discard(page)
        self._written.pop(page, None)
        self._engine = None
        self._pages = None
        if _slot(page) in self.sram:
            self.sram.release(_slot(page))

    def _is_sound(self, page: Page) -> bool:
        if page.index in self._rooms and self._rooms[page.index].is_dropped:
            return False
        image = self.page_image(page.index)
        return image is not None and zlib.crc32(image) == page.crc32

    def _is_needed(self, page: int) -> bool:
        """Whether the present levels of the operators need a page."""
        needed = [_page_of(item, level) for item, level in zip(self._nested, self._levels, strict=False)]
        return bool(self._levels) and page <= max(needed, default=0)

    def _choose_level(self) -> None:
        """Run at the highest level whose pages are all there, if any."""
        for level in reversed(self.levels):
            if self.set_level(level) == Status.OK:
                return
        self._levels = [item.level_at(0) for item in self._nested]

    def _whole_level(self) -> int:
        for position, level in enumerate(self.levels):
            if self._levels == [item.level_at(position) for item in self._nested]:
                return level
        return 0

    def _apply(self) -> Status:
        if self._engine is not None:
            self._engine.set_level(self._scopes())
        return Status.OK

    def _scopes(self) -> dict[str, int]:
        return {
            f"^{re.escape(item.scope)}$": level
            for item, level in zip(self._nested, self._levels, strict=True)
        }

    def _ready_engine(self) -> Interpreter:
        if self._engine is None:
            policy = "static" if self._model.controller is None else "dynamic"
            self._engine = Interpreter(model=self._model, level=self.levels[0], pages=self, policy=policy)
            self._engine.set_level(self._scopes())
            self._engine.allocate_tensors()
        return self._engine


def _page_of(item: NestedOperator, level: int) -> int:
    return item.page_of(item.nesting.index(level))


def _tensor(tensor: Tensor) -> DeviceTensor:
    if len(tensor.shape) > MAX_DIMENSIONS:
        raise UnsupportedError(
            f"tensor {tensor.label} has {len(tensor.shape)} dimensions, the protocol has room for {MAX_DIMENSIONS}"
        )
    scale = int(np.float32(tensor.scale).view(np.uint32))
    return DeviceTensor(
        bytearray(tensor.bytes),
        enum_value("TensorType", tensor.type),
        tensor.shape,
        scale,
        tensor.zero_point,
    )


def _slot(page: int) -> str:
    """Name of the SRAM region of a page."""
    return f"page {page}"
