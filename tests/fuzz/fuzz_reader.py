"""Fuzz everything that reads a model file.

Two ways to run it, from the root of the checkout:

    python -m tests.fuzz.fuzz_reader --seconds 60 --seed 0     # seeded mutations, needs nothing else
    python -m tests.fuzz.fuzz_reader corpus/                   # guided by coverage, needs the package atheris

An input counts as handled when it is read, or refused with a `TflnestError`. Anything else is reported, and its
bytes are written to `--crashes`.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import resource
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from converters.planning import plan_nesting, round_filters
from converters.recipe import load_recipe
from firmware_sim.inspection import inspect
from tests.controllers import controlled, narrow_levels
from tests.models import everything, nested, network, operators_of, small_network
from tflnest import container, flatbuffer
from tflnest.errors import TflnestError
from tflnest.interpreter import Interpreter
from tflnest.materialization import materialize
from tflnest.model import Model, pack_tree
from tflnest.schema import schema

#: Larger models are prepared, and not run: what they compute may take any time.
MAX_RUN_BYTES = 1 << 18
#: What asks for more than this many bytes ends in a MemoryError, which is reported.
ADDRESS_SPACE = 6 << 30
SLOW_SECONDS = 5.0
EDGES = (0, 1, -1, 2, 4, 8, 16, 127, 128, 255, 256, 0x7FFF, 0xFFFF, 0x7FFFFFFF, -0x80000000, 1 << 24, 12345)


def exercise(content: bytes) -> Model | None:
    """Read a file and do with it what the tools do.

    Returns:
        The model, or None where it was refused.

    Raises:
        Exception: Anything but a `TflnestError` is a bug.
    """
    try:
        model = Model.from_bytes(content)
    except TflnestError:
        return None
    steps: list[Callable[[], Any]] = [
        lambda: round_filters(plan_nesting(model.graph, load_recipe("uniform")), 0),
        lambda: operators_of(model),
        lambda: _rewrite(model),
        lambda: _run(model),
        lambda: inspect(model, "stm32vldiscovery"),
    ]
    if model.controller is not None:
        steps.append(lambda: _run(model, "dynamic"))
    if model.directory is None:
        steps.append(lambda: nested(model))
    else:
        steps += [lambda level=level: _run(materialize(model, level)) for level in model.directory.levels]
    for step in steps:
        _refused(step)
    return model


def _refused(step: Callable[[], Any]) -> bool:
    try:
        step()
    except TflnestError:
        return True
    return False


def _rewrite(model: Model) -> None:
    """What was read can be written and read again."""
    copy = model.copy()
    copy.changed()
    Model.from_bytes(copy.to_bytes())


def _run(model: Model, policy: str = "static") -> None:
    tensors = model.graph.main.tensors
    interpreter = Interpreter(model=model, policy=policy)
    interpreter.allocate_tensors()
    if sum(tensor.bytes for tensor in tensors) > MAX_RUN_BYTES:
        return
    for level in interpreter.levels:
        interpreter.set_level(level)
        interpreter.invoke()


# --------------------------------------------------------------------------------------------- mutation


def seeds() -> list[bytes]:
    """Sound models, plain and nested, small and less small."""
    models = [small_network(), network()]
    models += [nested(models[0]), nested(models[1], everything((3, 5, 8)))]
    models.append(nested(models[1], everything((6, 8), "compensated")))
    models.append(narrow_levels(controlled(), (2, 4, 8)))
    return [model.to_bytes() for model in models]


def reseal(content: bytes) -> bytes:
    """Complete the directory of a nested file anew, so that a reader gets past its CRC and identity."""
    try:
        flatbuffer.check(content)
        root = schema().Model.GetRootAs(content, 0)
        for index in range(root.MetadataLength()):
            if root.Metadata(index).Name() == container.METADATA_NAME.encode():
                return container.seal(
                    content, root.Metadata(index).Buffer(), flatbuffer.buffer_extents(content)
                )
    except Exception:  # a mutant that cannot be sealed is tried as it is
        return content
    return content


def mutate(content: bytes, rng: np.random.Generator) -> bytes:
    """A few random changes of the bytes, or of the object tree behind them."""
    if rng.random() < 0.4:
        try:
            return mutate_tree(content, rng)
        except Exception:  # not every tree can be packed
            return content
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        _mutate_bytes(changed, rng)
    return bytes(changed)


def _mutate_bytes(data: bytearray, rng: np.random.Generator) -> None:
    if len(data) < 16:
        return
    kind = rng.integers(7)
    at = int(rng.integers(len(data)))
    if kind == 0:
        data[at] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        data[at] = int(rng.integers(256))
    elif kind == 2:
        word = at & ~3
        data[word : word + 4] = (int(rng.choice(EDGES)) & 0xFFFFFFFF).to_bytes(4, "little")
    elif kind == 3:  # shift an offset or a count a little
        word = at & ~3
        value = int.from_bytes(data[word : word + 4], "little") + int(rng.integers(-16, 17))
        data[word : word + 4] = (value & 0xFFFFFFFF).to_bytes(4, "little")
    elif kind == 4:  # splice
        size = int(rng.integers(1, 65))
        source = int(rng.integers(len(data)))
        data[at : at + size] = data[source : source + size]
    elif kind == 5:
        del data[at:]
    else:
        del data[at : at + int(rng.integers(1, 33))]


def mutate_tree(content: bytes, rng: np.random.Generator) -> bytes:
    """Change a few fields of the object tree to other sound or unsound values."""
    tree = Model.from_bytes(content).tree
    places = list(_places(tree))
    for _ in range(int(rng.integers(1, 4))):
        owner, name, value = places[int(rng.integers(len(places)))]
        setattr(owner, name, _other(value, rng))
    return pack_tree(tree)


def _places(item: Any) -> Any:
    """All fields of a tree: owner, name, value."""
    for name, value in vars(item).items():
        yield item, name, value
        for child in value if isinstance(value, list) else [value]:
            if hasattr(child, "__dict__"):
                yield from _places(child)


def _other(value: Any, rng: np.random.Generator) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return int(rng.choice(EDGES)) if rng.random() < 0.7 else value + int(rng.integers(-2, 3))
    if isinstance(value, float):
        return float(rng.choice([0.0, -1.0, float("nan"), float("inf"), 1e-40, 3e38]))
    if isinstance(value, np.ndarray) and value.size:
        return _other_array(value, rng)
    if isinstance(value, list) and value:
        copy = list(value)
        at = int(rng.integers(len(copy)))
        if rng.random() < 0.3:
            return copy[:at]
        copy[at] = copy[int(rng.integers(len(copy)))]
        return copy
    return None


def _other_array(value: Any, rng: np.random.Generator) -> Any:
    copy = np.array(value)
    kind = rng.integers(4)
    if kind == 0:
        return copy[: int(rng.integers(copy.size))]
    at = int(rng.integers(copy.size))
    if copy.dtype.kind == "f":
        copy[at] = rng.choice([0.0, -1.0, float("nan"), float("inf"), 1e-40, 3e38])
    else:
        limits = np.iinfo(copy.dtype)
        edge = int(rng.choice(EDGES)) if kind == 1 else int(copy[at]) + int(rng.integers(-3, 4))
        copy[at] = min(max(edge, int(limits.min)), int(limits.max))
    return np.append(copy, copy[:1]) if kind == 3 else copy


# ---------------------------------------------------------------------------------------------- running


class Campaign:
    """A seeded run.

    Args:
        seed: Of all mutations.
        crashes: Folder for inputs that were not handled; None to keep none.

    Attributes:
        inputs: How many were tried.
        accepted: How many of them were read.
        failures: What was not handled: the input and the traceback.
    """

    def __init__(self, seed: int, crashes: Path | None = None) -> None:
        self._rng = np.random.default_rng(seed)
        self._crashes = crashes
        self._seeds = seeds()
        self.inputs = self.accepted = 0
        self.failures: list[tuple[bytes, str]] = []

    def step(self) -> None:
        """Try one input."""
        content = mutate(self._seeds[int(self._rng.integers(len(self._seeds)))], self._rng)
        if self._rng.random() < 0.5:
            content = reseal(content)
        self.inputs += 1
        start = time.monotonic()
        try:
            self.accepted += exercise(content) is not None
            if time.monotonic() - start > SLOW_SECONDS:
                self._fail(content, f"took {time.monotonic() - start:.1f} s")
        except Exception:
            self._fail(content, traceback.format_exc())

    def _fail(self, content: bytes, what: str) -> None:
        self.failures.append((content, what))
        if self._crashes is not None:
            self._crashes.mkdir(parents=True, exist_ok=True)
            (self._crashes / f"{hashlib.sha256(content).hexdigest()[:16]}.tflite").write_bytes(content)


def _seeded(arguments: argparse.Namespace) -> int:
    campaign = Campaign(arguments.seed, arguments.crashes)
    end = time.monotonic() + arguments.seconds
    while time.monotonic() < end:
        campaign.step()
    summaries: dict[str, int] = {}
    for _, what in campaign.failures:
        summaries[what] = summaries.get(what, 0) + 1
    for what, count in summaries.items():
        sys.stdout.write(f"{count} inputs:\n{what}\n")
    sys.stdout.write(
        f"{campaign.inputs} inputs, {campaign.accepted} of them read, {len(campaign.failures)} not handled "
        f"({len(summaries)} different)\n"
    )
    return 1 if campaign.failures else 0


def _guided(arguments: argparse.Namespace) -> None:
    import atheris

    corpus = Path(arguments.corpus)
    corpus.mkdir(parents=True, exist_ok=True)
    for content in seeds():
        (corpus / hashlib.sha256(content).hexdigest()[:16]).write_bytes(content)

    def one_input(data: bytes) -> None:
        exercise(data)
        exercise(reseal(data))

    atheris.instrument_all()
    atheris.Setup([sys.argv[0], str(corpus)], one_input)
    atheris.Fuzz()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the fuzzer; returns 1 where an input was not handled."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", nargs="?", help="folder of inputs for the guided run (needs atheris)")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the seeded run")
    parser.add_argument("--seed", type=int, default=0, help="seed of the mutations")
    parser.add_argument(
        "--crashes", type=Path, default=Path("crashes"), help="folder for what was not handled"
    )
    parsed = parser.parse_args(arguments)
    if parsed.corpus is not None and importlib.util.find_spec("atheris") is not None:
        _guided(parsed)
        return 0
    if parsed.corpus is not None:
        sys.stderr.write("atheris is not installed: running seeded mutations instead\n")
    return _seeded(parsed)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    sys.exit(main())
