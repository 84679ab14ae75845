"""What is in a model file, and how much of a board it takes."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from firmware_sim.arena import ArenaPlan, plan_arena
from firmware_sim.board import Board
from firmware_sim.fitting import Fitter, Needs
from firmware_sim.pager import Placement
from firmware_sim.storage import LevelSize, Storage, measure_storage
from firmware_sim.target import CORTEX_M
from tflnest.container import Page
from tflnest.controller_entry import Controller
from tflnest.device import missing_operators
from tflnest.graph import Graph, Tensor
from tflnest.model import Model
from tflnest.nested import nested_operators
from tflnest.version import JSON_SCHEMA_VERSION


@dataclass(frozen=True)
class Port:
    """An input or an output.

    Attributes:
        name: Name of the tensor.
        shape: Its shape; -1 where the file leaves a dimension open.
        type: Its TFLite type.
        scale: Per-tensor scale; None without quantization.
        zero_point: Per-tensor zero point; None without quantization.
    """

    name: str
    shape: tuple[int, ...]
    type: str
    scale: float | None
    zero_point: int | None


@dataclass(frozen=True)
class NestedFilter:
    """A filter that nests.

    Attributes:
        scope: Name that recipes match.
        subgraph: Index of its subgraph.
        operator: Index of its operator.
        stock: Name of the stock operator.
        shape: Shape of the filter.
        weights: Number of weights.
        levels: Its own bit-widths, lowest first.
        model_bits: Its bit-width at every level of the model.
        scheme: "bucket" or "compensated".
        activation_bits: Bits at which its operator reads its activation at each own level.
    """

    scope: str
    subgraph: int
    operator: int
    stock: str
    shape: tuple[int, ...]
    weights: int
    levels: tuple[int, ...]
    model_bits: tuple[int, ...]
    scheme: str
    activation_bits: tuple[int, ...]


@dataclass(frozen=True)
class Inspection:
    """The result of `inspect`.

    Attributes:
        name: Path of the file, or "model".
        bytes: Size of the file.
        sha256: SHA-256 of the file, in hexadecimal.
        identity: Identity of a nested model, in hexadecimal; None for a plain one.
        description: Free text of the file.
        subgraphs: Number of subgraphs.
        inputs: Inputs of the main subgraph.
        outputs: Outputs of the main subgraph.
        operators: Number of operators by name, all subgraphs together.
        missing_on_device: Operators of the main subgraph that the C runtime lacks, by label, with the reason; the
            native engine leaves them to the reference kernels.
        tensors: Number of tensors, all subgraphs together.
        levels: Sizes per level, lowest first; a plain model has one.
        pages: Pages of a nested model; empty for a plain one.
        nested: Filters that nest.
        flat: Names of the filters that do not.
        storage: Comparison with separate models.
        recipe: The recipe that made the file (TOML); empty for a plain model.
        metadata: Bytes of every metadata entry by name.
        arena: The arena on the board, or on a Cortex-M where no board was given.
        board: The board; None where none was given.
        needs: Memory that every level needs on the board, pages in flash and on the host; empty without a board.
        controller: What chooses widths for each input; None where nothing does.
    """

    name: str
    bytes: int
    sha256: str
    identity: str | None
    description: str
    subgraphs: int
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    operators: dict[str, int]
    missing_on_device: dict[str, str]
    tensors: int
    levels: tuple[LevelSize, ...]
    pages: tuple[Page, ...]
    nested: tuple[NestedFilter, ...]
    flat: tuple[str, ...]
    storage: Storage
    recipe: str
    metadata: dict[str, int]
    arena: ArenaPlan
    board: Board | None
    needs: tuple[Needs, ...]
    controller: Controller | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "schema_version": JSON_SCHEMA_VERSION,
            "file": {
                "path": self.name,
                "bytes": self.bytes,
                "sha256": self.sha256,
                "identity": self.identity,
                "description": self.description,
            },
            "subgraphs": self.subgraphs,
            "inputs": [_port_dict(port) for port in self.inputs],
            "outputs": [_port_dict(port) for port in self.outputs],
            "operators": dict(self.operators),
            "missing_on_device": dict(self.missing_on_device),
            "tensors": {"count": self.tensors, "nested": len(self.nested), "flat": len(self.flat)},
            "levels": [self._level_dict(size) for size in self.levels],
            "pages": [
                {
                    "page": page.index,
                    "level": page.level,
                    "bytes": page.size,
                    "crc32": f"{page.crc32:08x}",
                    "segments": len(page.segments),
                }
                for page in self.pages
            ],
            "nested": [{**asdict(item), "shape": list(item.shape)} for item in self.nested],
            "flat": list(self.flat),
            "storage": self.storage.to_dict(),
            "recipe": self.recipe,
            "metadata": dict(self.metadata),
            "arena": self.arena.to_dict(),
            "board": self.board.to_dict() if self.board is not None else None,
            "controller": None if self.controller is None else asdict(self.controller),
        }

    def _level_dict(self, size: LevelSize) -> dict[str, Any]:
        row: dict[str, Any] = {
            "level": size.level,
            "page_bytes": size.page_bytes,
            "resident_bytes": size.resident_bytes,
            "bits_per_weight": size.bits_per_weight,
        }
        needs = [item for item in self.needs if item.level == size.level]
        if needs:
            row["needs"] = {str(item.placement): item.to_dict() for item in needs}
        return row


def inspect(model: Model | str | Path, board: Board | str | Path | None = None) -> Inspection:
    """Describe a model.

    Args:
        model: A model, nested or plain, or its path.
        board: A board, its name, or the path of a profile; None leaves out what fits.

    Raises:
        FormatError: The model is corrupt.
        UsageError: There is no such board.
    """
    name = "model" if isinstance(model, Model) else str(model)
    chosen = board if isinstance(board, Board) or board is None else Board.load(board)
    loaded = model if isinstance(model, Model) else Model.load(model)
    graph, directory, content = loaded.graph, loaded.directory, loaded.to_bytes()
    storage = measure_storage(loaded)
    nested = _nested_filters(graph)
    fitter = Fitter(loaded, storage)
    return Inspection(
        name=name,
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        identity=directory.identity.hex() if directory is not None else None,
        description=graph.description,
        subgraphs=len(graph.subgraphs),
        inputs=tuple(_port(tensor) for tensor in graph.main.input_tensors()),
        outputs=tuple(_port(tensor) for tensor in graph.main.output_tensors()),
        operators=dict(Counter(item.name for subgraph in graph.subgraphs for item in subgraph.operators)),
        missing_on_device=missing_operators(graph.main),
        tensors=sum(len(subgraph.tensors) for subgraph in graph.subgraphs),
        levels=storage.levels,
        pages=directory.pages if directory is not None else (),
        nested=nested,
        flat=storage.flat_filters,
        storage=storage,
        recipe=directory.recipe if directory is not None else "",
        metadata={key: len(value) for key, value in graph.metadata.items()},
        arena=fitter.plan(chosen) if chosen is not None else plan_arena(loaded, CORTEX_M),
        board=chosen,
        needs=_needs(fitter, chosen, storage),
        controller=loaded.controller,
    )


def _needs(fitter: Fitter, board: Board | None, storage: Storage) -> tuple[Needs, ...]:
    if board is None:
        return ()
    placements = (Placement.FLASH, Placement.HOST) if len(storage.levels) > 1 else (Placement.FLASH,)
    return tuple(
        fitter.needs(board, size.level, placement) for size in storage.levels for placement in placements
    )


def _port(tensor: Tensor) -> Port:
    quantization = tensor.quantization
    return Port(
        name=tensor.name,
        shape=tensor.shape_signature,
        type=tensor.type,
        scale=tensor.scale if quantization is not None else None,
        zero_point=tensor.zero_point if quantization is not None else None,
    )


def _port_dict(port: Port) -> dict[str, Any]:
    return {**asdict(port), "shape": list(port.shape)}


def _nested_filters(graph: Graph) -> tuple[NestedFilter, ...]:
    return tuple(
        NestedFilter(
            scope=item.scope,
            subgraph=subgraph.index,
            operator=item.operator.index,
            stock=item.stock,
            shape=item.filter_shape,
            weights=item.weights,
            levels=item.nesting.levels,
            model_bits=tuple(item.level_at(position) for position in range(len(item.model_levels))),
            scheme=str(item.nesting.scheme),
            activation_bits=item.activation_bits,
        )
        for subgraph, item in nested_operators(graph)
    )
