"""The arena's allocations in the order in which TensorFlow Lite Micro makes them.

TFLM fills one block of memory from both ends: persistent objects from the end downwards (the tail), the
activation plan from the start (the head), and temporary objects above the head while it prepares. A
`Script` lists every step for a model; `Script.fits` replays it in an arena of a given size, and so finds
the smallest arena in which AllocateTensors succeeds.

Source: TFLM micro_allocator.cc, micro_interpreter.cc, arena_allocator/single_arena_buffer_allocator.cc.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from firmware_sim.footprint import options_layout, prepare, state_bytes
from firmware_sim.target import Target, align_up
from tflnest.graph import Graph, Subgraph, Tensor

#: Alignment of the arena, of every buffer in the head and of every buffer that a kernel asks for.
ARENA_ALIGNMENT = 16
#: Scratch requests per operator that TFLM keeps room for while it prepares.
MAX_SCRATCH_PER_OPERATOR = 12
#: Bytes that the greedy planner needs per buffer while it plans: 4 integers, 3 arrays, a list entry.
PLANNER_BYTES_PER_BUFFER = 40

_EVAL_TENSOR = "2Pe"
_TENSOR = "(eP)2i2Pz2eb"
_QUANTIZATION = "2Pi"
_NODE = "(6Pi)P"
_SCRATCH_REQUEST = "z2i"
_ALLOCATION_INFO = "zP3ib"
_ARENA_ALLOCATOR = "8Pi"
_PLANNER = "P2i4P2iPb"
_MODEL_ALLOCATOR = "5Pb3P"


@dataclass(frozen=True)
class Step:
    """One step: its kind, and bytes with an alignment, or a number of buffers for "plan"."""

    kind: str
    size: int = 0
    alignment: int = 1


@dataclass
class Script:
    """Every allocation of a model, in order.

    Attributes:
        steps: The steps.
        tail: Persistent bytes by what they are for, alignment not included.
    """

    steps: list[Step] = field(default_factory=list)
    tail: Counter[str] = field(default_factory=Counter)

    def persist(self, what: str, size: int, alignment: int) -> None:
        """Add an object to the tail."""
        self.steps.append(Step("persist", size, alignment))
        self.tail[what] += size

    def tail_bytes(self) -> int:
        """Bytes that the tail takes in an arena whose end is aligned to 16."""
        tail = 0
        for step in self.steps:
            if step.kind == "persist":
                tail = align_up(tail + step.size, step.alignment)
        return tail

    def fits(self, arena_bytes: int) -> bool:
        """Whether AllocateTensors succeeds in an arena of that many bytes that starts at a multiple of 16."""
        head = temp = 0
        tail = arena_bytes
        for step in self.steps:
            if step.kind == "persist":
                # TFLM itself checks against the head alone, and lets what it writes here destroy its own
                # temporary objects; it then fails a little later.
                tail = (tail - step.size) // step.alignment * step.alignment
                if tail < temp:
                    return False
            elif step.kind == "temp":
                temp = align_up(temp, step.alignment) + step.size
                if temp > tail:
                    return False
            elif step.kind == "resize":
                head = temp = step.size
                if head > tail:
                    return False
            elif step.kind == "plan":
                start = align_up(temp, ARENA_ALIGNMENT)
                room = tail // ARENA_ALIGNMENT * ARENA_ALIGNMENT - start
                if room < step.size * PLANNER_BYTES_PER_BUFFER:
                    return False
            else:
                temp = head
        return True

    def minimum_bytes(self) -> int:
        """The smallest arena, in bytes, in which AllocateTensors succeeds."""
        low, high = 0, 1024
        while not self.fits(high):
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.fits(middle) else (middle, high)
        return high


@dataclass(frozen=True)
class HeadPlan:
    """What the tail needs to know of the head.

    Attributes:
        head_bytes: Size of the activation plan.
        buffers: Number of buffers in the plan, scratch included.
        scratch: Number of scratch requests of every operator, in order over all subgraphs.
        variables: Bytes of every variable that lies in the tail.
    """

    head_bytes: int
    buffers: int
    scratch: tuple[int, ...]
    variables: tuple[int, ...]


def script(graph: Graph, target: Target, plan: HeadPlan) -> Script:
    """All allocations of a model.

    Args:
        graph: The model.
        target: Whose structure sizes count.
        plan: The head.
    """
    steps = Script()
    _allocator_objects(steps, target)
    _model_objects(steps, graph, target)
    for subgraph in graph.subgraphs:
        for operator in subgraph.operators:
            size = state_bytes(operator, target)
            if size:
                steps.persist("kernel state", size, ARENA_ALIGNMENT)
    _prepare(steps, graph, target, plan.scratch)
    _plan(steps, graph, target, plan)
    _interface_tensors(steps, graph.main, target)
    return steps


def _allocator_objects(steps: Script, target: Target) -> None:
    """The allocators and the planner, which TFLM constructs inside the arena."""
    recorder = ("4z", "P24z") if target.wheel else ("", "")
    for members in (_ARENA_ALLOCATOR + recorder[0], _PLANNER, _MODEL_ALLOCATOR + recorder[1]):
        steps.persist("allocators and planner", *target.layout(members))


def _model_objects(steps: Script, graph: Graph, target: Target) -> None:
    steps.persist("allocators and planner", *target.layout("2P"))
    steps.steps.append(Step("resize", target.sizeof(_SCRATCH_REQUEST) * MAX_SCRATCH_PER_OPERATOR))
    size, alignment = target.layout("3P" if target.wheel else "2P")
    steps.persist("subgraphs", size * len(graph.subgraphs), alignment)
    size, alignment = target.layout(_EVAL_TENSOR)
    for subgraph in graph.subgraphs:
        steps.persist("tensors", size * len(subgraph.tensors), alignment)
    size, alignment = target.layout(_NODE)
    for subgraph in graph.subgraphs:
        steps.persist("operators", size * len(subgraph.operators), alignment)
    for subgraph in graph.subgraphs:
        for operator in subgraph.operators:
            size, alignment = options_layout(operator, target)
            if size:
                steps.persist("operator options", size, alignment)


def _prepare(steps: Script, graph: Graph, target: Target, scratch: Sequence[int]) -> None:
    request = target.sizeof(_SCRATCH_REQUEST)
    requested = number = 0
    for subgraph in graph.subgraphs:
        for operator in subgraph.operators:
            for ask in prepare(operator, subgraph):
                if ask.kind == "persistent":
                    steps.persist("per-channel multipliers and tables", ask.amount, ARENA_ALIGNMENT)
                elif ask.kind == "temp":
                    _tensor(steps, "temp", subgraph.tensors[ask.amount], target)
            steps.steps.append(Step("reset"))
            requested += scratch[number]
            number += 1
            steps.steps.append(Step("resize", request * (requested + MAX_SCRATCH_PER_OPERATOR)))


def _plan(steps: Script, graph: Graph, target: Target, plan: HeadPlan) -> None:
    scratch = sum(plan.scratch)
    if scratch:
        steps.persist("scratch handles", target.pointer_bytes * scratch, target.pointer_bytes)
    tensors = sum(len(subgraph.tensors) for subgraph in graph.subgraphs)
    steps.steps.append(Step("temp", target.pointer_bytes * len(graph.subgraphs), target.pointer_bytes))
    size, alignment = target.layout(_ALLOCATION_INFO)
    steps.steps.append(Step("temp", size * (tensors + scratch), alignment))
    for size in plan.variables:
        steps.persist("variables", size, ARENA_ALIGNMENT)
    steps.steps.extend((Step("plan", plan.buffers), Step("reset"), Step("resize", plan.head_bytes)))


def _interface_tensors(steps: Script, subgraph: Subgraph, target: Target) -> None:
    for indices in (subgraph.inputs, subgraph.outputs):
        steps.persist("inputs and outputs", target.pointer_bytes * len(indices), ARENA_ALIGNMENT)
        for index in indices:
            _tensor(steps, "persist", subgraph.tensors[index], target)


def _tensor(steps: Script, kind: str, tensor: Tensor, target: Target) -> None:
    """A full TfLiteTensor with its quantization, whose zero points are expanded to an array."""
    parts = [target.layout(_TENSOR)]
    if tensor.quantization is not None:
        parts.append(target.layout(_QUANTIZATION))
        parts.append((4 + 4 * tensor.quantization.scale.size, 4))
    for size, alignment in parts:
        if kind == "persist":
            steps.persist("inputs and outputs", size, alignment)
        else:
            steps.steps.append(Step("temp", size, alignment))
