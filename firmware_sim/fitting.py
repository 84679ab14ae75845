"""Whether a model fits a board, and what would fit where it does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from firmware_sim.arena import ArenaPlan, OperatorMemory, plan_arena
from firmware_sim.board import Board, list_boards
from firmware_sim.estimate import OperatorCost, firmware_costs, graph_costs
from firmware_sim.firmware.arena import operator_memory
from firmware_sim.firmware.code_size import plan_flash
from firmware_sim.firmware.memory import fit_tiles, plan_sram
from firmware_sim.firmware.plan import FirmwarePlan, Options, core_of, level_position, plan_program
from firmware_sim.firmware.program import DeviceProgram, device_program
from firmware_sim.memory import ALIGNMENT
from firmware_sim.pager import PAGE_ALIGNMENT, Placement
from firmware_sim.storage import Storage
from firmware_sim.target import Target, align_up
from tflnest.device import Core
from tflnest.errors import DoesNotFitError, FormatError, UnsupportedError
from tflnest.model import Model

#: Flash for start-up, kernels and the serial protocol where no firmware can be planned: about what a generated one
#: with convolution, depthwise and dense kernels takes on a Cortex-M4.
RUNTIME_FLASH_BYTES = 16 * 1024


@dataclass(frozen=True)
class Needs:
    """Memory that a level needs on a board, in bytes.

    Attributes:
        level: The level.
        placement: Where the lower-bit pages rest.
        is_firmware: Whether this is what generated firmware takes; otherwise the device runtime lacks an operator
            of the model, and this is what TFLM would take.
        stack_bytes: SRAM of stacks and static data.
        arena_bytes: SRAM of the tensor arena.
        activation_bytes: What it would be without scratch for tiles of weights.
        is_reduced: Whether tiles are smaller than usual because the board is short of SRAM.
        slot_bytes: SRAM of the pages that are in it.
        sram_bytes: SRAM in all.
        sram_available_bytes: SRAM of the board.
        runtime_bytes: Flash of code and parameters (an estimate).
        page_bytes: Flash of the pages that are in it.
        flash_bytes: Flash in all.
        flash_available_bytes: Flash of the board.
    """

    level: int
    placement: Placement
    is_firmware: bool
    stack_bytes: int
    arena_bytes: int
    activation_bytes: int
    is_reduced: bool
    slot_bytes: int
    sram_bytes: int
    sram_available_bytes: int
    runtime_bytes: int
    page_bytes: int
    flash_bytes: int
    flash_available_bytes: int

    @property
    def sram_short_bytes(self) -> int:
        """Bytes of SRAM that are missing; 0 where it fits."""
        return max(0, self.sram_bytes - self.sram_available_bytes)

    @property
    def flash_short_bytes(self) -> int:
        """Bytes of flash that are missing; 0 where it fits."""
        return max(0, self.flash_bytes - self.flash_available_bytes)

    @property
    def fits(self) -> bool:
        """Whether both memories are large enough."""
        return not self.sram_short_bytes and not self.flash_short_bytes

    def to_dict(self) -> dict[str, Any]:
        """For a report in JSON."""
        return {
            **asdict(self),
            "placement": str(self.placement),
            "fits": self.fits,
            "sram_short_bytes": self.sram_short_bytes,
            "flash_short_bytes": self.flash_short_bytes,
        }


class Fitter:
    """Answers for one model what it needs where.

    Args:
        model: The model.
        storage: Its sizes.
    """

    def __init__(self, model: Model, storage: Storage) -> None:
        self._model = model
        self._storage = storage
        self._plans: dict[Target, ArenaPlan] = {}
        self._firmware: dict[Core, FirmwarePlan] = {}
        self._program: DeviceProgram | None = None
        #: Why no firmware can be planned; None where it can.
        self.unsupported: str | None = None
        try:
            self._program = device_program(model)
        except (UnsupportedError, FormatError) as error:
            self.unsupported = error.message

    def firmware(self, board: Board, level: int, placement: Placement) -> FirmwarePlan | None:
        """The firmware that `tflnest firmware` would make; None where the device runtime lacks an operator.

        Pages of levels above take flash or SRAM where they rest there; those on the host take none.
        """
        if self._program is None:
            return None
        core = core_of(board)
        if core not in self._firmware:
            self._firmware[core] = plan_program(self._program, core, Options())
        top = level_position(self._program.levels, level if placement is Placement.HOST else None)
        return fit_tiles(replace(self._firmware[core], options=Options(pages=placement), top=top), board)

    def operators(self, board: Board, level: int, placement: Placement) -> tuple[OperatorMemory, ...]:
        """What every operator needs in the arena that `needs` counts."""
        plan = self.firmware(board, level, placement)
        return self.plan(board).operators if plan is None else operator_memory(plan.program, plan.arena)

    def costs(self, board: Board, level: int, placement: Placement, highest: int) -> list[OperatorCost]:
        """Work of every operator at a level, in firmware that has memory for a highest one."""
        plan = self.firmware(board, highest, placement)
        if plan is None:
            return graph_costs(self._model.graph, board.cycles, self._model.controller)
        return firmware_costs(plan, board, level_position(plan.program.levels, level))

    def plan(self, board: Board) -> ArenaPlan:
        """TFLM's arena of the model on a board; planned once per target."""
        if board.target not in self._plans:
            self._plans[board.target] = plan_arena(self._model, board.target)
        return self._plans[board.target]

    def needs(self, board: Board, level: int, placement: Placement = Placement.FLASH) -> Needs:
        """Memory for running a level with the base page in flash and the other pages as placed.

        Args:
            board: The board.
            level: One of the model's levels; pages of higher levels take flash or SRAM where they rest there.
            placement: Where the lower-bit pages rest.
        """
        plan = self.firmware(board, level, placement)
        if plan is not None:
            return self._firmware_needs(plan, board, level, placement)
        sizes = self._storage.levels
        position = level_position([size.level for size in sizes], level)
        used = sizes[1 : position + 1] if placement is Placement.HOST else sizes[1:]
        in_flash = sizes if placement is Placement.FLASH else sizes[:1]
        slots = (
            sum(align_up(size.page_bytes, ALIGNMENT) for size in used)
            if placement is not Placement.FLASH
            else 0
        )
        pages = sum(align_up(size.page_bytes, PAGE_ALIGNMENT) for size in in_flash)
        arena = self.plan(board).needed_bytes
        return Needs(
            level=level,
            placement=placement,
            is_firmware=False,
            stack_bytes=board.stack_bytes,
            arena_bytes=arena,
            activation_bytes=arena,
            is_reduced=False,
            slot_bytes=slots,
            sram_bytes=align_up(board.stack_bytes, ALIGNMENT) + arena + slots,
            sram_available_bytes=board.sram_bytes,
            runtime_bytes=RUNTIME_FLASH_BYTES,
            page_bytes=pages,
            flash_bytes=RUNTIME_FLASH_BYTES + pages,
            flash_available_bytes=board.flash_bytes,
        )

    def _firmware_needs(self, plan: FirmwarePlan, board: Board, level: int, placement: Placement) -> Needs:
        sram, flash = plan_sram(plan, board), plan_flash(plan, board)
        pages = sum(align_up(plan.program.pages[page].size, PAGE_ALIGNMENT) for page in plan.flash_pages)
        runtime = (
            RUNTIME_FLASH_BYTES if flash is None else align_up(flash.total_bytes - pages, PAGE_ALIGNMENT)
        )
        return Needs(
            level=level,
            placement=placement,
            is_firmware=True,
            stack_bytes=sram.stack_bytes + sram.static_bytes,
            arena_bytes=sram.arena_bytes,
            activation_bytes=plan.arena.activation_bytes,
            is_reduced=plan.arena.is_reduced,
            slot_bytes=sram.slot_bytes,
            sram_bytes=sram.total_bytes,
            sram_available_bytes=board.sram_bytes,
            runtime_bytes=runtime,
            page_bytes=pages,
            flash_bytes=runtime + pages,
            flash_available_bytes=board.flash_bytes,
        )

    def require(self, board: Board, level: int, placement: Placement) -> Needs:
        """The needs of a level that must fit.

        Raises:
            DoesNotFitError: It does not; the hint says what would.
        """
        needs = self.needs(board, level, placement)
        if needs.fits:
            return needs
        peak = max(
            self.operators(board, level, placement),
            key=lambda operator: (operator.end_bytes, operator.live_bytes),
            default=None,
        )
        if needs.sram_short_bytes:
            where = f", at operator {peak.label}" if peak is not None else ""
            tiles = ", with the smallest tiles (--smallest)" if needs.is_firmware else ""
            parts = (
                f"stack and static data {needs.stack_bytes:,} + arena {needs.arena_bytes:,} + "
                f"pages {needs.slot_bytes:,}"
            )
            raise DoesNotFitError(
                f"{board.name}: level {level} needs {needs.sram_bytes:,} bytes of SRAM ({parts}), and there are "
                f"{board.sram_bytes:,}: short by {needs.sram_short_bytes:,} bytes{where}{tiles}",
                self._remedy(board, needs),
                memory="sram",
                needed_bytes=needs.sram_bytes,
                available_bytes=board.sram_bytes,
                operator=peak.index if peak is not None else None,
            )
        parts = f"runtime about {needs.runtime_bytes:,} + constants {needs.page_bytes:,}"
        largest = self._largest_constant()
        raise DoesNotFitError(
            f"{board.name}: level {level} needs {needs.flash_bytes:,} bytes of flash ({parts}), and there are "
            f"{board.flash_bytes:,}: short by {needs.flash_short_bytes:,} bytes{largest[0]}",
            self._remedy(board, needs),
            memory="flash",
            needed_bytes=needs.flash_bytes,
            available_bytes=board.flash_bytes,
            operator=largest[1],
        )

    def _largest_constant(self) -> tuple[str, int | None]:
        """The operator that brings the most constants."""
        graph = self._model.graph.main
        sizes: Mapping[int, int] = {
            operator.index: sum(
                data.nbytes
                for index in operator.inputs
                if index >= 0 and (data := graph.tensors[index].data) is not None
            )
            for operator in graph.operators
        }
        index = max(sizes, key=lambda number: sizes[number], default=None)
        if index is None:
            return "", None
        return f"; most are of operator {graph.operators[index].label}: {sizes[index]:,} bytes", index

    def _remedy(self, board: Board, needs: Needs) -> str:
        """What would fit: a lower level, another placement, another board."""
        options: list[str] = []
        nested = len(self._storage.levels) > 1
        for placement in dict.fromkeys((needs.placement, Placement.HOST, Placement.FLASH)):
            fitting = [
                size.level for size in self._storage.levels if self.needs(board, size.level, placement).fits
            ]
            if nested and fitting:
                where = "on the host" if placement is Placement.HOST else f"in {placement}"
                command = f"--level {max(fitting)} --pages {placement}"
                options.append(f"level {max(fitting)} with pages {where} ({command})")
        larger = [name for name in list_boards() if name != board.name and self._fits_board(name, needs)]
        if larger:
            options.append(f"another board: {', '.join(larger[:3])}")
        if not nested:
            options.append(
                "a nested model with fewer bits (tflnest convert)" if needs.flash_short_bytes else ""
            )
        options = [option for option in options if option]
        return f"this would fit: {'; '.join(options)}" if options else "no board that is known would hold it"

    def _fits_board(self, name: str, needs: Needs) -> bool:
        return self.needs(Board.load(name), needs.level, needs.placement).fits
