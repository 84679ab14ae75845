"""Small int8 networks with random weights, and what tests do with them: nest, list operators, compare trees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.nest import nest
from converters.parameters import LevelParameters, source_parameters
from converters.planning import plan_nesting, round_filters
from converters.recipe import Recipe, load_recipe
from tests.single_operator import GraphBuilder
from tflnest.model import Model, add_buffer, set_metadata
from tflnest.nested import NestedOperator, nested_operators
from tflnest.schema import schema


class NetworkBuilder(GraphBuilder):
    """Adds whole layers: random per-channel filters, biases and named tensors.

    Args:
        seed: Of all random values.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.rng = np.random.default_rng(seed)

    def name(self, index: int, name: str) -> int:
        """Give a tensor a name."""
        self.subgraph.tensors[index].name = name
        return index

    def filter(self, shape: Sequence[int], axis: int = 0, name: str = "", per_channel: bool = True) -> int:
        """A random int8 filter; `axis` counts its output channels."""
        values = self.rng.integers(-127, 128, shape).astype(np.int8)
        scales = self.rng.uniform(0.001, 0.02, shape[axis] if per_channel else 1).astype(np.float32)
        return self.name(self.constant(values, scales, 0, axis), name)

    def bias(self, channels: int, name: str = "") -> int:
        """A random int32 bias."""
        values = self.rng.integers(-2000, 2000, channels).astype(np.int32)
        return self.name(self.constant(values, np.full(channels, 1e-4, np.float32), 0), name)

    def activation(self, shape: Sequence[int], name: str = "") -> int:
        """An int8 activation with a random scale and zero point."""
        scale = float(np.float32(self.rng.uniform(0.02, 0.2)))
        return self.name(self.tensor(shape, scale=scale, zero_point=int(self.rng.integers(-40, 40))), name)

    def convolution(
        self,
        x: int,
        channels: int,
        kernel: int = 3,
        stride: int = 1,
        name: str = "conv",
        groups: int = 1,
        weights: int | None = None,
        bias: int | None = None,
    ) -> int:
        """CONV_2D with SAME padding; `weights` and `bias` reuse those of another operator, bias -1 has none."""
        _, height, width, depth = self.subgraph.tensors[x].shape
        if weights is None:
            weights = self.filter((channels, kernel, kernel, depth // groups), name=f"{name}/weights")
        bias = self.bias(channels, f"{name}/bias") if bias is None else bias
        y = self.activation((1, -(-height // stride), -(-width // stride), channels), f"{name}/out")
        self.operator(
            "CONV_2D",
            [x, weights, bias],
            [y],
            version=3,
            padding="SAME",
            stride_w=stride,
            stride_h=stride,
            dilation_w_factor=1,
            dilation_h_factor=1,
            fused_activation_function="RELU6",
        )
        return y

    def depthwise(self, x: int, stride: int = 1, name: str = "depthwise") -> int:
        """DEPTHWISE_CONV_2D 3x3 with SAME padding and multiplier 1."""
        _, height, width, depth = self.subgraph.tensors[x].shape
        weights = self.filter((1, 3, 3, depth), axis=3, name=f"{name}/weights")
        y = self.activation((1, -(-height // stride), -(-width // stride), depth), f"{name}/out")
        self.operator(
            "DEPTHWISE_CONV_2D",
            [x, weights, self.bias(depth, f"{name}/bias")],
            [y],
            version=3,
            padding="SAME",
            stride_w=stride,
            stride_h=stride,
            depth_multiplier=1,
            dilation_w_factor=1,
            dilation_h_factor=1,
        )
        return y

    def flatten(self, x: int) -> int:
        """RESHAPE to (1, elements)."""
        source = self.subgraph.tensors[x]
        shape = (1, int(np.prod(source.shape)))
        y = self.tensor(
            shape, scale=source.quantization.scale, zero_point=int(source.quantization.zeroPoint[0])
        )
        self.operator("RESHAPE", [x, self.constant(np.array(shape, np.int32))], [y], new_shape=list(shape))
        return self.name(y, "flat")

    def dense(self, x: int, channels: int, name: str = "dense", per_channel: bool = False) -> int:
        """FULLY_CONNECTED."""
        depth = self.subgraph.tensors[x].shape[1]
        weights = self.filter((channels, depth), name=f"{name}/weights", per_channel=per_channel)
        y = self.activation((1, channels), f"{name}/out")
        self.operator("FULLY_CONNECTED", [x, weights, self.bias(channels, f"{name}/bias")], [y], version=4)
        return y

    def start(self, shape: Sequence[int] = (1, 8, 8, 3)) -> int:
        """The input of the network."""
        return self.name(self.input(shape, scale=0.05, zero_point=-3), "input")

    def finish(self, y: int) -> Model:
        """The network as a model."""
        return Model.from_bytes(self.build([y]))


def network(seed: int = 0) -> Model:
    """conv 3x3 -> depthwise -> conv 1x1 -> grouped conv -> fully connected, with metadata and a signature."""
    net = NetworkBuilder(seed)
    x = net.start()
    y = net.convolution(x, 16, name="stem")
    y = net.depthwise(y, stride=2)
    y = net.convolution(y, 24, kernel=1, name="point")
    y = net.convolution(y, 16, kernel=3, stride=2, name="grouped", groups=2)
    y = net.dense(net.flatten(y), 10, name="head")
    set_metadata(net.tree, "notes", b"kept as it is")
    net.tree.signatureDefs = [signature("serve", {"x": x}, {"y": y})]
    return net.finish(y)


def calm_network(seed: int = 0) -> Model:
    """The same with an output of so coarse a scale that it is never full, so that margins differ."""
    model = network(seed)
    output = model.tree.subgraphs[0].tensors[model.graph.main.outputs[0]]
    output.quantization.scale = [float(output.quantization.scale[0]) * 32]
    model.changed()
    return Model.from_bytes(model.to_bytes())


def small_network(seed: int = 0) -> Model:
    """conv 1x1 -> fully connected, about 2 kB: for tests that try every byte."""
    net = NetworkBuilder(seed)
    y = net.convolution(net.start((1, 2, 2, 4)), 4, kernel=1, name="a")
    return net.finish(net.dense(net.flatten(y), 3, name="b"))


def signature(key: str, inputs: dict[str, int], outputs: dict[str, int], subgraph: int = 0) -> Any:
    """A `SignatureDefT`."""
    module = schema()
    item = module.SignatureDefT()
    item.signatureKey = key
    item.subgraphIndex = subgraph
    item.inputs, item.outputs = [], []
    for names, entries in ((inputs, item.inputs), (outputs, item.outputs)):
        for name, index in names.items():
            entry = module.TensorMapT()
            entry.name, entry.tensorIndex = name, index
            entries.append(entry)
    return item


def add_offline_plan(tree: Any, offsets: Sequence[int]) -> None:
    """Give a tree the arena planner's metadata: one offset per tensor, -1 for "plan it"."""
    words = np.array([1, 0, len(offsets), *offsets], "<i4")
    set_metadata(tree, "OfflineMemoryAllocation", words.tobytes())


def add_raw_metadata(tree: Any, name: str, content: bytes) -> None:
    """A metadata entry, also where there is one of that name already."""
    entry = schema().MetadataT()
    entry.name, entry.buffer = name, add_buffer(tree, content)
    tree.metadata = [*(tree.metadata or []), entry]


def everything(levels: tuple[int, ...] = (4, 6, 8), scheme: str = "bucket") -> Recipe:
    """A recipe that nests every filter."""
    return load_recipe("uniform").with_options(levels=levels, scheme=scheme)


def nested(model: Model, recipe: Recipe | None = None, seed: int = 0) -> Model:
    """The model nested with the source's biases."""
    recipe = everything() if recipe is None else recipe
    filters = round_filters(plan_nesting(model.graph, recipe), seed)
    return nest(model, filters, source_parameters(model.graph, filters), recipe)


def with_own_biases(model: Model, recipe: Recipe | None = None, step: int = 7) -> Model:
    """The model nested with another bias at every level: the source's, and `step` more for each level."""
    recipe = everything() if recipe is None else recipe
    filters = round_filters(plan_nesting(model.graph, recipe), 0)
    parameters = {
        place: [
            LevelParameters((level.bias + step * own).astype(np.int32)) for own, level in enumerate(levels)
        ]
        for place, levels in source_parameters(model.graph, filters).items()
    }
    return nest(model, filters, parameters, recipe)


def branching() -> Model:
    """A convolution, and another one in each of two branches, of which the first is taken: three subgraphs."""
    net = NetworkBuilder()
    y = net.convolution(net.start((1, 6, 6, 8)), 8, name="trunk")
    for number in (1, 2):
        branch = NetworkBuilder(number)
        branch.tree = net.tree
        branch.tree.subgraphs.append(branch.subgraph)
        x = branch.start((1, 6, 6, 8))
        branch.subgraph.tensors[x].quantization = net.subgraph.tensors[y].quantization
        z = branch.convolution(x, 8, name="branch")
        branch.subgraph.inputs, branch.subgraph.outputs = [x], [z]
    chosen = net.tensor((1, 6, 6, 8))
    net.subgraph.tensors[chosen].quantization = net.tree.subgraphs[1].tensors[z].quantization
    taken = net.constant(np.array([True]))
    net.operator("IF", [taken, y], [chosen], then_subgraph_index=1, else_subgraph_index=2)
    return net.finish(chosen)


def every_layout() -> Model:
    """A nested model whose levels bring all that they can: biases and scales of their own or of a level below, behind
    planes or apart from them, where filters are shared."""
    net = NetworkBuilder(3)
    weights = net.filter((8, 3, 3, 8), name="shared")
    y = net.convolution(net.start((1, 6, 6, 8)), 8, weights=weights, name="first")
    y = net.convolution(y, 8, weights=weights, name="second")
    y = net.depthwise(net.convolution(y, 12, name="third"), name="fourth")
    source = net.finish(net.dense(net.flatten(y), 5, name="fifth", per_channel=False))
    recipe = everything((2, 4, 6, 8))
    filters = round_filters(plan_nesting(source.graph, recipe), 0)
    parameters = source_parameters(source.graph, filters)
    for (_, index), levels in parameters.items():
        quantization = source.graph.main.tensors[source.graph.main.operators[index].inputs[1]].quantization
        assert quantization is not None
        bias, wider = levels[0].bias, np.float32(1.25) * quantization.scale
        levels[0] = LevelParameters((bias + 90).astype(np.int32), wider)
        levels[1] = LevelParameters((bias + 90).astype(np.int32))  # the bias of below, and scales of its own
        levels[2] = LevelParameters((bias - 70 * (index % 2)).astype(np.int32), wider)  # the scales of below
    return nest(source, filters, parameters, recipe)


def operators_of(model: Model) -> list[NestedOperator]:
    """All nested operators of a model."""
    return [item for _, item in nested_operators(model.graph)]


def plain(value: Any) -> Any:
    """An object tree as nested lists, dictionaries and numbers that compare with ==."""
    if value is None or isinstance(value, str | bytes | bool | int):
        return value.encode() if isinstance(value, str) else value
    if isinstance(value, float):
        return np.float64(value).tobytes()  # NaN equals itself
    if isinstance(value, np.ndarray):
        return (value.dtype.str, value.tobytes())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return {"class": type(value).__name__, **{name: plain(item) for name, item in vars(value).items()}}


def buffer_offsets(content: bytes) -> Iterator[int]:
    """File offset of the data of every buffer that holds some."""
    root = schema().Model.GetRootAs(content, 0)
    for index in range(root.BuffersLength()):
        buffer = root.Buffers(index)
        if buffer.DataLength():
            yield buffer._tab.Vector(buffer._tab.Offset(4))


def random_inputs(model: Model, count: int, seed: int = 0) -> NDArray[np.int8]:
    """Random int8 samples for the first input."""
    shape = model.graph.main.input_tensors()[0].shape
    return np.random.default_rng(seed).integers(-128, 128, (count, *shape[1:])).astype(np.int8)
