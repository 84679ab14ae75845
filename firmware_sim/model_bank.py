"""Room for whole models on a virtual board: two banks of flash, one for the model that runs, one for the next."""

from __future__ import annotations

from collections.abc import Callable

from firmware_sim.board import Board
from firmware_sim.fitting import RUNTIME_FLASH_BYTES
from firmware_sim.memory import Flash
from firmware_sim.sectors import MARK_BYTES, PageRoom
from firmware_sim.virtual_model import VirtualModel
from tflnest.bridge.description import restore
from tflnest.bridge.device import Status
from tflnest.errors import DoesNotFitError, FormatError, TflnestError
from tflnest.model import Model

#: What the runtime leaves of the flash is for two banks and for pages, the same for each.
_PARTS = 3


class ModelBank:
    """A `tflnest.bridge.device.ModelStore` that makes virtual models.

    Args:
        board: Gives the size of the flash.
        make: Makes a model on a board whose flash is what the banks leave.

    Raises:
        DoesNotFitError: The flash has no room for banks.
    """

    def __init__(self, board: Board, make: Callable[[Model, Board], VirtualModel]) -> None:
        sector = board.flash_sector_bytes
        part = (board.flash_bytes - RUNTIME_FLASH_BYTES) // _PARTS // sector * sector
        if part <= 0:
            raise DoesNotFitError(
                f"{board.name}: {board.flash_bytes:,} bytes of flash leave no room for models beside the "
                f"{RUNTIME_FLASH_BYTES:,} of the runtime",
                memory="flash",
                needed_bytes=RUNTIME_FLASH_BYTES + _PARTS * sector,
                available_bytes=board.flash_bytes,
            )
        self._board = board.with_limits(flash_bytes=board.flash_bytes - (_PARTS - 1) * part)
        self._banks = [
            Flash(part, sector_bytes=sector, program_bytes=board.flash_program_bytes) for _ in range(2)
        ]
        self._make = make
        self._next = PageRoom(self._banks[0], 0, 0)
        self.model: VirtualModel | None = None

    @property
    def capacity(self) -> int:
        """See `ModelStore`."""
        return self._banks[0].size - MARK_BYTES

    @property
    def size(self) -> int:
        """See `ModelStore`."""
        return self._next.size

    def begin(self, size: int) -> Status:
        """See `ModelStore`."""
        self._next = PageRoom(self._banks[0], 0, size)
        return self._next.erase(0)

    def write(self, offset: int, content: bytes) -> Status:
        """See `ModelStore`."""
        return self._next.program(offset, content)

    def end(self, identity: bytes) -> tuple[Status, int, int]:
        """See `ModelStore`."""
        try:
            made = self._make(restore(self._next.image), self._board)
        except DoesNotFitError as error:
            return Status.ERROR_SIZE, error.needed_bytes, error.available_bytes
        except FormatError:
            return Status.ERROR_CRC, 0, 0
        except TflnestError:
            return Status.ERROR_ARGUMENT, 0, 0
        if made.identity != identity:
            return Status.ERROR_IDENTITY, 0, 0
        self.model = made
        self._banks.reverse()
        return Status.OK, 0, 0
