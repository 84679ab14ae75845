"""The instruction model of `firmware_sim.instructions`: fitted to random networks, checked on public models.

    python -m benchmarks.instruction_model                      # error on public models, which the fit never sees
    python -m benchmarks.instruction_model --fit                # count random networks, and write the coefficients
    python -m benchmarks.instruction_model --cores cortex-m4 --models kws,ad01

Counts are exact: generated firmware marks every operator, and an emulated board counts. Errors are relative, of whole
inferences. Instructions are not cycles.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from statistics import median

import numpy as np
from scipy.optimize import nnls

from benchmarks.firmware import FILES, models
from converters.conversion import convert
from firmware_sim.board import Board
from firmware_sim.counting import Counter
from firmware_sim.firmware.generation import Firmware, generate_firmware
from firmware_sim.firmware.plan import Options, Protocol
from firmware_sim.firmware.selftest import INFERENCE_REGION, run_selftest
from firmware_sim.firmware.size import build
from firmware_sim.instructions import COSTS, KernelFeatures, instruction_model, step_features
from tests.firmware_sim.builder import SCALE, BoardBuilder
from tflnest.errors import DoesNotFitError, ExitCode
from tflnest.files import write_file
from tflnest.model import Model

#: The emulated board that counts for a core. Cortex-M0 code runs on a Cortex-M3, instruction by instruction.
BOARDS = {
    "cortex-m0": "mps2-an385",
    "cortex-m3": "mps2-an385",
    "cortex-m4": "mps2-an386",
    "cortex-m55": "mps3-an547",
}
#: Chains of the random networks, one after another.
CHAINS = ((4, 6, 8), (2, 4, 6, 8), (3, 5, 8), (6, 8), (3, 6, 8), (4, 8), (5, 6, 8))
NETWORKS = 24
#: One of so many networks is of FULLY_CONNECTED alone, one of so many others is not nested.
DENSE, PLAIN = 5, 4
LAYERS = 9


@dataclass(frozen=True)
class Count:
    """One operator in one inference.

    Attributes:
        features: Of its calls.
        instructions: Counted.
    """

    features: tuple[KernelFeatures, ...]
    instructions: int


class RandomNetwork(BoardBuilder):
    """A convolutional network of random shapes."""

    def pick(self, *values: int) -> int:
        """One of some values."""
        return int(self.random.choice(values))

    def window(self, source: int, channels: int, taps: tuple[int, int], stride: int) -> int:
        """CONV_2D with any window."""
        _, height, width, depth = self.shape(source)
        output = self.tensor((1, -(-height // stride), -(-width // stride), channels), scale=SCALE)
        inputs = (source, self.weights((channels, *taps, depth)), self.bias(channels))
        options = {"stride_w": stride, "stride_h": stride, "dilation_w_factor": 1, "dilation_h_factor": 1}
        self.operator("CONV_2D", inputs, (output,), padding="SAME", **options)
        return output

    def channelwise(self, source: int, taps: tuple[int, int], stride: int, multiplier: int = 1) -> int:
        """DEPTHWISE_CONV_2D with any window."""
        _, height, width, depth = self.shape(source)
        channels = depth * multiplier
        output = self.tensor((1, -(-height // stride), -(-width // stride), channels), scale=SCALE)
        inputs = (source, self.weights((1, *taps, channels), axis=3), self.bias(channels))
        options = {"stride_w": stride, "stride_h": stride, "dilation_w_factor": 1, "dilation_h_factor": 1}
        self.operator(
            "DEPTHWISE_CONV_2D", inputs, (output,), padding="SAME", depth_multiplier=multiplier, **options
        )
        return output

    def add(self, first: int, second: int) -> int:
        """ADD of two tensors of one shape."""
        output = self.tensor(self.shape(first), scale=SCALE * 1.7, zero_point=-5)
        self.operator("ADD", (first, second), (output,), fused_activation_function="RELU")
        return output

    def pool(self, source: int, name: str, size: tuple[int, int]) -> int:
        """A pooling of disjoint windows."""
        _, height, width, depth = self.shape(source)
        quantization = self.subgraph.tensors[source].quantization
        options = {
            "stride_h": size[0],
            "stride_w": size[1],
            "filter_height": size[0],
            "filter_width": size[1],
        }
        return self.unary(
            name,
            source,
            (1, height // size[0], width // size[1], depth),
            scale=quantization.scale[0],
            zero_point=int(quantization.zeroPoint[0]),
            padding="VALID",
            **options,
        )

    def layer(self, source: int) -> int:
        """A random layer with a filter, sometimes with an ADD behind it."""
        depth, height = self.shape(source)[3], self.shape(source)[1]
        kind, stride = self.pick(0, 0, 1, 1, 2, 2, 3), self.pick(1, 1, 1, 2) if height > 5 else 1
        if kind == 0:
            return self.window(source, self.pick(7, 8, 12, 16, 24, 32, 48, 64), (1, 1), 1)
        if kind == 1:
            taps = (self.pick(1, 2, 3, 3, 5), self.pick(1, 3, 3, 4))
            return self.window(source, self.pick(8, 13, 16, 24, 32), taps, stride)
        if kind == 2:
            taps = (self.pick(3, 3, 3, 5), self.pick(3, 3, 3, 4))
            return self.channelwise(source, taps, stride, self.pick(1, 1, 1, 1, 1, 2) if depth < 24 else 1)
        return self.add(source, self.window(source, depth, (3, 3), 1))

    def dense_network(self) -> Model:
        """FULLY_CONNECTED alone, of few and odd sizes."""
        outputs = self.input((1, self.pick(1, 8, 16, 40)), scale=SCALE)
        for _ in range(LAYERS):
            outputs = self.dense(outputs, self.pick(1, 2, 4, 8, 16, 16, 24, 32, 50), bool(self.pick(0, 1)))
        return self.model(outputs)

    def network(self) -> Model:
        """A convolutional network."""
        size = self.pick(9, 12, 16, 20, 25)
        start = self.input((1, size, self.pick(8, 10, 16), self.pick(1, 1, 3, 4, 8)), scale=SCALE)
        if self.shape(start)[3] == 1 and self.pick(0, 1):
            outputs = self.window(start, self.pick(8, 12, 16), (self.pick(3, 5, 10), self.pick(3, 4, 8)), 2)
        elif self.shape(start)[3] == 1:
            outputs = self.channelwise(start, (self.pick(3, 10), self.pick(3, 8)), 2, self.pick(8, 64))
        else:
            outputs = self.window(start, self.pick(8, 16, 24), (3, 3), 1)
        for _ in range(LAYERS):
            outputs = self.layer(outputs)
        if min(self.shape(outputs)[1:3]) >= 4:
            outputs = self.pool(outputs, ("AVERAGE_POOL_2D", "MAX_POOL_2D")[self.pick(0, 1)], (2, 2))
        if self.pick(0, 1):
            outputs = self.pool(outputs, "AVERAGE_POOL_2D", self.shape(outputs)[1:3])
        outputs = self.unary("LOGISTIC", outputs, scale=1 / 256, zero_point=-128)
        count = int(np.prod(self.shape(outputs)))
        outputs = self.unary("RESHAPE", outputs, (1, count), new_shape=[1, count])
        for units in (self.pick(32, 64, 100, 128, 256), self.pick(8, 64, 128), self.pick(2, 10, 12)):
            outputs = self.dense(outputs, units)
        return self.model(self.softmax(outputs))


def random_models(count: int, folder: Path) -> Iterator[Model]:
    """Plain networks and nested ones; files on the way lie in a folder."""
    for seed, chain in zip(range(count), cycle(CHAINS), strict=False):
        network = RandomNetwork(seed)
        plain = network.dense_network() if seed % DENSE == DENSE - 1 else network.network()
        path = folder / "network.tflite"
        write_file(path, plain.to_bytes(), force=True)
        yield plain if seed % PLAIN == PLAIN - 1 else convert(path, recipe="uniform", levels=chain).model


def board_of(core: str) -> Board:
    """The board that counts for a core."""
    return replace(Board.load(BOARDS[core]), core=core)


def counts(model: Model, board: Board, folder: Path) -> dict[int, list[Count]]:
    """Count every operator at every level.

    Returns:
        By bit-width of the level, in order of the operators.

    Raises:
        DoesNotFitError: The board is too small.
    """
    options = Options(protocol=Protocol.NONE, marks=True)
    firmware = generate_firmware(model, board, options, title="network")
    firmware.write(folder / "firmware", force=True)
    report = run_selftest(board, build(folder / "firmware", board), counter=Counter(), timeout_s=600)
    found: dict[int, list[Count]] = {}
    regions = iter(report.regions)
    for run in report.runs:
        counted: dict[int, int] = {}
        for region in regions:
            if region.id == INFERENCE_REGION:
                break
            counted[region.id] = region.instructions
        found[run.level] = list(_operators(firmware, run.level, counted))
    return found


def _operators(firmware: Firmware, level: int, counted: dict[int, int]) -> Iterator[Count]:
    plan = firmware.plan
    for position, step in enumerate(plan.program.steps):
        features = step_features(plan, position, plan.program.levels.index(level))
        yield Count(tuple(features), counted[step.operator.index])


def fit(samples: Sequence[Count]) -> dict[str, dict[str, float]]:
    """Non-negative coefficients with the least relative error, kind by kind."""
    groups: dict[str, list[Count]] = defaultdict(list)
    for sample in samples:
        if len(sample.features) == 1:
            groups[sample.features[0].kind].append(sample)
    fitted = {}
    for kind, group in sorted(groups.items()):
        names = sorted({name for sample in group for name in sample.features[0].values})
        rows = np.array([[item.features[0].values.get(name, 0) for name in names] for item in group], float)
        target = np.array([item.instructions for item in group], float)
        # Half relative, half absolute: a long operator counts for more, a short one for something.
        weight = target**-0.75
        scale = np.maximum((rows * weight[:, None]).max(axis=0), 1e-12)
        solution, _ = nnls(rows * weight[:, None] / scale, target * weight)
        fitted[kind] = {
            name: round(float(value), 4)
            for name, value in zip(names, solution / scale, strict=True)
            if value > 0 or name.startswith("weights ")
        }
    return fitted


def fit_core(core: str, networks: int) -> dict[str, dict[str, float]]:
    """Count the random networks on one core, and fit."""
    samples: list[Count] = []
    with tempfile.TemporaryDirectory(prefix="tflnest-") as name:
        folder = Path(name)
        for position, model in enumerate(random_models(networks, folder)):
            found = counts(model, board_of(core), folder)
            samples += [sample for level in found.values() for sample in level]
            print(f"{core}: network {position + 1} of {networks}", file=sys.stderr, flush=True)
    return fit(samples)


def predicted(core: str, samples: Sequence[Count]) -> float:
    """Instructions of an inference by the model; operators that it does not know count as 0."""
    model = instruction_model(core)
    assert model is not None
    return sum(model.instructions(item) or 0.0 for sample in samples for item in sample.features)


def check(core: str, names: Sequence[str], kinds: Sequence[str]) -> list[float]:
    """Print the errors on public models; returns them."""
    errors = []
    with tempfile.TemporaryDirectory(prefix="tflnest-") as folder:
        for name in names:
            for kind, model in models(name, kinds, "uniform"):
                try:
                    found = counts(model, board_of(core), Path(folder))
                except DoesNotFitError as error:
                    print(f"{core:11} {name:14} {kind:7} {error.message}", flush=True)
                    continue
                for level, samples in found.items():
                    counted = sum(sample.instructions for sample in samples)
                    guess = predicted(core, samples)
                    errors.append(guess / counted - 1)
                    print(
                        f"{core:11} {name:14} {kind:7} {level:5} {counted:13,} {guess:13,.0f} {errors[-1]:+7.1%}",
                        flush=True,
                    )
    return errors


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit or check; returns an `ExitCode`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fit", action="store_true", help="count random networks and write the coefficients")
    parser.add_argument("--cores", default=",".join(BOARDS), help="names, with commas between")
    parser.add_argument("--networks", type=int, default=NETWORKS, help="random networks to count")
    parser.add_argument("--models", default=",".join(FILES), help="public models to check on")
    parser.add_argument("--kinds", default="plain,nested")
    chosen = parser.parse_args(arguments)
    cores = chosen.cores.split(",")
    if chosen.fit:
        known = json.loads(COSTS.read_text("utf-8"))["cores"] if COSTS.is_file() else {}
        known |= {core: fit_core(core, chosen.networks) for core in cores}
        table = {"networks": chosen.networks, "optimization": "-O2", "cores": dict(sorted(known.items()))}
        write_file(COSTS, (json.dumps(table, indent=2) + "\n").encode(), force=True)
        return ExitCode.OK
    print(f"{'core':11} {'model':14} {'kind':7} {'level':>5} {'counted':>13} {'model says':>13} {'error':>7}")
    errors = [
        error for core in cores for error in check(core, chosen.models.split(","), chosen.kinds.split(","))
    ]
    if errors:
        sizes = [abs(error) for error in errors]
        print(f"{len(errors)} inferences: error {median(sizes):.1%} in the median, {max(sizes):.1%} at most")
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
