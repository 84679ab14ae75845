"""The C reader of option maps accepts what the Python reader accepts, and reads the same."""

from __future__ import annotations

import ctypes
import random

import pytest
from flatbuffers import flexbuffers

from tests.models import everything, nested, network, operators_of
from tflnest.device.sources import INCLUDE, NESTED, SOURCE
from tflnest.errors import FormatError, UsageError
from tflnest.graph import Operator
from tflnest.native.compiler import Compiler, Unit, shared_library
from tflnest.nested import PREFIX, parse

LISTS = ("filter_shape", "levels", "model_levels", "requantization", "activation_bits", "bias")
MUTANTS = 4000

#: Makes the values of the struct readable in order: those of the lists, then scheme and version.
READ = """
#include "tflnest_options.h"
const char *read(const char *code, const void *bytes, uint32_t size, int32_t *values)
{
    tflnest_options options;
    const char *problem = tflnest_options_read(&options, code, bytes, size);
    const tflnest_list *lists[] = {&options.filter_shape, &options.levels, &options.model_levels,
                                   &options.requantization, &options.activation_bits, &options.bias};
    for (int i = 0; i < 6 && problem == 0; i++) {
        *values++ = (int32_t)lists[i]->count;
        for (uint32_t j = 0; j < lists[i]->count; j++) {
            *values++ = lists[i]->values[j];
        }
    }
    *values++ = options.scheme;
    *values = options.version;
    return problem;
}
"""


@pytest.fixture(scope="module")
def reader(compiler: Compiler) -> ctypes.CDLL:
    names = ("tflnest_options", "tflnest_flexbuffer")
    sources = tuple(NESTED / f"{name}.c" for name in names)
    unit = Unit(sources, tuple(sorted(NESTED.glob("*.h"))), (INCLUDE, SOURCE, NESTED), READ)
    library = ctypes.CDLL(str(shared_library(unit, compiler, ("-std=c99", "-O1", "-fPIC"))))
    library.read.restype = ctypes.c_char_p
    return library


def read_in_c(reader: ctypes.CDLL, operator: Operator, content: bytes) -> list[int] | str:
    values = (ctypes.c_int32 * 128)()
    problem = reader.read(operator.name.encode(), content, len(content), values)
    if problem is not None:
        return problem.decode()
    flat, lists = list(values), []
    for _ in LISTS:
        count = flat.pop(0)
        lists.append(flat[:count])
        flat = flat[count:]
    return [*lists, flat[0], flat[1]]


def read_in_python(operator: Operator, content: bytes, subgraph) -> str | None:
    """What is wrong with the options, or None; tensors are not looked at."""
    changed = Operator(
        operator.index,
        operator.name,
        1,
        operator.inputs,
        operator.outputs,
        {"custom_options": content},
        is_custom=True,
    )
    try:
        parse(changed, subgraph)
    except (FormatError, UsageError) as error:
        return error.message
    return None


#: What the Python reader says of tensors, which the C reader of options does not see.
OF_TENSORS = ("inputs, its options ask for", "elements; ", "is no quantized INT8 activation")


def cases():
    for recipe in (everything((4, 6, 8)), everything((2, 4, 6, 8), "compensated"), everything((3, 7))):
        model = nested(network(), recipe)
        yield from ((model.graph.main, item) for item in operators_of(model))


def test_sound_options_are_read(reader: ctypes.CDLL) -> None:
    for _, item in cases():
        values = read_in_c(reader, item.operator, item.operator.options["custom_options"])
        assert not isinstance(values, str), values
        assert tuple(values[0]) == item.filter_shape
        assert tuple(values[1]) == item.nesting.levels
        assert tuple(values[2]) == item.model_levels
        assert len(set(values[3])) == len(set(item.multipliers))
        assert tuple(values[4]) == item.activation_bits
        assert len(set(values[5])) == len(set(item.biases))
        assert values[7] == item.stock_version


def mutated(content: bytes, rng: random.Random) -> bytes:
    result = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        result[rng.randrange(len(result))] = rng.choice((0, 1, 2, 4, 8, 255, rng.randrange(256)))
    return bytes(result[: rng.randrange(len(result) + 1)] if rng.random() < 0.1 else result)


def test_mutants_are_accepted_by_both_or_by_none(reader: ctypes.CDLL) -> None:
    rng = random.Random(5)
    chosen = list(cases())
    accepted = stricter = 0
    for _ in range(MUTANTS):
        subgraph, item = rng.choice(chosen)
        content = mutated(item.operator.options["custom_options"], rng)
        ours = read_in_c(reader, item.operator, content)
        problem = read_in_python(item.operator, content, subgraph)
        fits = problem is None or any(text in problem for text in OF_TENSORS)
        if fits and isinstance(ours, str):
            stricter += 1  # the Python package takes an offset beyond the start as an index from the end
            continue
        assert fits == (not isinstance(ours, str)), (item.operator.name, content, ours, problem)
        accepted += fits
    assert stricter <= MUTANTS // 1000
    assert MUTANTS // 50 < accepted < MUTANTS // 2


def test_unknown_operators_and_empty_maps(reader: ctypes.CDLL) -> None:
    _, item = next(cases())
    content = item.operator.options["custom_options"]
    other = Operator(0, PREFIX + "SVDF", 1, (), (), {}, is_custom=True)
    assert "no such nested operator" in read_in_c(reader, other, content)
    assert "missing" in read_in_c(reader, item.operator, bytes(flexbuffers.Dumps({})))
    for size in range(3):
        assert "no flexbuffer map" in read_in_c(reader, item.operator, bytes(size))
