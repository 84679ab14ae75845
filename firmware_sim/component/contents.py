"""What a component is made of, whatever builds it: the model with its kernels, or with operators for TFLM.

`code` is the model as C: a static plan of the memory and direct calls of kernels, nothing else needed. The plan of
each kind of kernels (portable, DSP extension, vectors) is in a file of its own, and the compiler's flags choose one.

`tflm` is the nested file as an array, with operators that TensorFlow Lite Micro's interpreter calls.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from string import Template

import numpy as np

from firmware_sim.arena import plan_arena
from firmware_sim.firmware.names import literals, wrapped
from firmware_sim.firmware.plan import FirmwarePlan, Options, Protocol, level_position, plan_program
from firmware_sim.firmware.program import device_program
from firmware_sim.firmware.project import inputs_and_outputs, model_files, runtime_files
from firmware_sim.firmware.selftest import SEED, expected_crc32
from firmware_sim.pager import Placement
from firmware_sim.target import X86_64, align_up
from tflnest.device import Core
from tflnest.device.sources import component_files
from tflnest.errors import UnsupportedError, UsageError
from tflnest.files import read_file
from tflnest.materialization import materialize
from tflnest.model import Model
from tflnest.native.library import is_available
from tflnest.nested import is_nested, nested_operators
from tflnest.nesting import MASTER_BITS

TEMPLATES = Path(__file__).parent / "templates"

#: The line of tflnest_variant.h before which the choice of a component stands.
_CHOICE = "#ifndef TFLNEST_VARIANT\n"

#: The planned kernels that are left where a processor has neither instructions: also on desktops.
_PORTABLE = """/* Memory of this component is planned for three of them: where a processor has neither extension, the narrow one. */
#if !defined(TFLNEST_VARIANT) && !defined(__ARM_FEATURE_MVE) && \\
    !(defined(__ARM_FEATURE_DSP) && defined(__thumb2__))
#define TFLNEST_VARIANT TFLNEST_VARIANT_NARROW
#endif

"""

#: The check in generated code that the planned kernels are those that are compiled.
_CHECK = re.compile(r"#if TFLNEST_VARIANT != (\w+)\n#error [^\n]*\n#endif\n")

#: Operators whose names in TFLM's resolver do not follow from those of the schema.
_RESOLVER_NAMES = {"CUMSUM": "CumSum", "PADV2": "PadV2", "BATCH_MATMUL": "BatchMatMul"}

#: How many inputs are tried for a self-test that tells levels apart.
INPUTS = 8

#: Operators that tflnest adds to a resolver.
_NESTED_OPERATORS = 3

#: Bytes of an arena that are added for what a build of TFLM may take besides: scratch of optimized kernels.
_ARENA_MARGIN = 16384


class Contents(StrEnum):
    """What runs the model."""

    CODE = "code"
    TFLM = "tflm"


@dataclass(frozen=True)
class Parts:
    """The files that every target shares.

    Attributes:
        contents: What runs the model.
        files: Text by path below the folder of sources.
        selftest: Text by name, for the folder of an example.
        levels: Levels that can run, lowest first.
        checks: CRC-32 of the outputs of each level on the input of the self-test.
        memory: What it takes, for the README.
        sram_bytes: Bytes of SRAM for activations, scratch and pages, with the kernels that need most.
        flash_bytes: Bytes of flash for pages, or for the file; parameters and code come besides.
        use: How an application calls it, as C or C++.
        facts: For the manifest.
    """

    contents: Contents
    files: Mapping[str, str]
    selftest: Mapping[str, str]
    levels: tuple[int, ...]
    checks: Mapping[int, int]
    memory: str
    sram_bytes: int
    flash_bytes: int
    use: str
    facts: Mapping[str, object]

    @property
    def sources(self) -> list[str]:
        """Names of what is compiled, sorted."""
        return sorted(name for name in self.files if name.endswith((".c", ".cc", ".cpp")))


def code_parts(
    model: Model, heading: str, name: str, level: int | None = None, pages: Placement = Placement.FLASH
) -> Parts:
    """The model as C.

    Args:
        model: Nested or plain int8.
        heading: First line of every generated file, without the marks of a comment.
        name: Of the component; its header is included by it.
        level: Highest level to leave memory for; None for the full-bit one.
        pages: Where the lower-bit pages rest.

    Raises:
        UsageError: The model has no such level.
        UnsupportedError: The device runtime lacks operators; the message names every one of them.
    """
    program = device_program(model)
    options = Options(level=level, pages=pages, protocol=Protocol.NONE)
    plans = {core: plan_program(program, core, options) for core in Core}
    plan = plans[Core.PORTABLE]
    files = _model_code(plans) | _kernels(plan)
    _add_header(files, name, heading, "model.h")
    seed, checks = _checks(model, plan.levels)
    rows = "\n".join(f"    {{{level}u, 0x{crc:08x}u}}," for level, crc in checks.items())
    selftest = {
        "selftest.h": _fill("selftest/selftest.h", heading=heading),
        "selftest.c": _fill(
            "selftest/selftest.c",
            heading=heading,
            name=name,
            rows=rows,
            inputs_and_outputs=inputs_and_outputs(seed),
        ),
    }
    arenas = {str(core): item.arena.bytes for core, item in plans.items()}
    return Parts(
        contents=Contents.CODE,
        files=files,
        selftest=selftest,
        levels=plan.levels,
        checks=checks,
        memory=_memory_text(plans),
        sram_bytes=max(arenas.values()) + _page_bytes(plan, plan.slots),
        flash_bytes=_page_bytes(plan, plan.flash_pages),
        use=_fill("selftest/use_code.md", name=name, level=plan.levels[-1], arguments=_arguments(plan)),
        facts={"arena_bytes": arenas, "pages": str(pages)},
    )


def _model_code(plans: Mapping[Core, FirmwarePlan]) -> dict[str, str]:
    """`model.c`, once per kind of kernels where they differ, and what is the same for all."""
    made = {core: model_files(plan, None) for core, plan in plans.items()}
    files = dict(made[Core.PORTABLE])
    guarded = {core: _guarded(texts["model.c"]) for core, texts in made.items()}
    if any(text is not None for text in guarded.values()):
        del files["model.c"]
        for core, text in guarded.items():
            assert text is not None
            files[f"model_{core}.c"] = text
    return files


def _guarded(text: str) -> str | None:
    """Code that is compiled for its kind of kernels alone; None where all have the same."""
    include = '#include "runtime/src/tflnest_variant.h"\n'
    if include not in text:
        return None
    heading, rest = text.split("\n", 1)
    found = _CHECK.search(rest)
    assert found is not None
    rest = _CHECK.sub("", rest.replace(include, ""), count=1)
    guard = f'#include "tflnest/tflnest_variant.h"\n\n#if TFLNEST_VARIANT == {found[1]}\n\n'
    return f"{heading}\n{guard}{rest}\n#endif\n"


def _kernels(plan: FirmwarePlan) -> dict[str, str]:
    """The runtime, in one folder."""
    files = {f"tflnest/{Path(name).name}": text for name, text in runtime_files(plan, None).items()}
    crc = "tflnest/tflnest_crc32.h"
    assert crc in files
    variant = "tflnest/tflnest_variant.h"
    if variant in files:
        before, choice, after = files[variant].partition(_CHOICE)
        assert choice
        marker = before.rindex("/*")
        files[variant] = before[:marker] + _PORTABLE + before[marker:] + choice + after
    return files


def _add_header(files: dict[str, str], name: str, heading: str, *headers: str) -> None:
    """The header of the whole component, unless one of its own is called like that.

    Raises:
        UsageError: The name is that of another header.
    """
    own = f"{name}.h"
    if headers == (own,):
        return
    if own in files:
        raise UsageError(f"a component can't be called {name!r}: it has a header {own}", "choose with --name")
    includes = "\n".join(f'#include "{header}"' for header in headers)
    files[own] = _fill("selftest/header.h", heading=heading, guard=name.upper(), includes=includes)


def _checks(model: Model, levels: tuple[int, ...], policy: str | None = None) -> tuple[int, dict[int, int]]:
    """An input that tells levels apart, by its seed, and the CRC-32 of the outputs of each level on it.

    Where no input of the first ones does so for all levels, the one that does for most.
    """
    engine = "native" if is_available() else "reference"
    if model.directory is None:
        return SEED, {levels[0]: expected_crc32(model, None, engine)}
    best: tuple[int, dict[int, int]] = (SEED, {})
    for seed in range(SEED, SEED + INPUTS):
        found = {level: expected_crc32(model, level, engine, policy, seed) for level in levels}
        if len(set(found.values())) > len(set(best[1].values())):
            best = seed, found
        if len(set(found.values())) == len(levels):
            break
    return best


def _arguments(plan: FirmwarePlan) -> str:
    counts = {"input": len(plan.program.subgraph.inputs), "output": len(plan.program.subgraph.outputs)}
    return ", ".join(
        name if count == 1 else f"{name}_{number}"
        for name, count in counts.items()
        for number in range(count)
    )


def _memory_text(plans: Mapping[Core, FirmwarePlan]) -> str:
    plan = plans[Core.PORTABLE]
    arenas = ", ".join(f"{item.arena.bytes:,} bytes with {core} kernels" for core, item in plans.items())
    return (
        f"SRAM: an arena of {arenas}; {_page_bytes(plan, plan.slots):,} bytes for pages from outside, and a few bytes "
        f"of state. Flash: {_page_bytes(plan, plan.flash_pages):,} bytes of pages, besides parameters and code."
    )


def _page_bytes(plan: FirmwarePlan, pages: Iterable[int]) -> int:
    return sum(plan.program.pages[page].size for page in pages)


# ---------------------------------------------------------------------------------------------------------- TFLM


def tflm_parts(model: Model, heading: str, name: str, level: int | None = None) -> Parts:
    """The nested file with operators for TensorFlow Lite Micro.

    Args:
        model: A nested model, without a controller.
        heading: First line of every generated file, without the marks of a comment.
        name: Of the component; its header is included by it.
        level: Highest level that the self-test runs; None for the full-bit one. The file is whole.

    Raises:
        UsageError: The model is not nested, or has no such level.
        UnsupportedError: An operator is custom and not of tflnest, an input or output is no integer, or a level reads
            activations at fewer than 8 bits.
    """
    if model.directory is None:
        raise UsageError("the model is not nested: TensorFlow Lite Micro runs it as it is")
    levels = model.directory.levels
    levels = levels[: level_position(levels, level) + 1]
    _check_runnable(model)
    content = model.to_bytes()
    files = {path: read_file(file).decode("ascii") for path, file in component_files().items()}
    files["model_tflite.h"] = _fill("selftest/model_tflite.h", heading=heading)
    _add_header(files, name, heading, "model_tflite.h", "tflnest_tflm.h")
    lines = wrapped(literals(np.frombuffer(content, np.uint8)))
    files["model_tflite.c"] = _fill(
        "selftest/model_tflite.c", heading=heading, bytes="\n".join(lines), size=len(content)
    )
    seed, checks = _checks(model, levels, "static")
    adds, count = _resolver(model)
    arena = align_up(_arena_bytes(model), 1024)
    selftest = {
        "selftest.h": _fill("selftest/selftest.h", heading=heading),
        "selftest.cc": _fill(
            "selftest/selftest.cc",
            heading=heading,
            name=name,
            rows="\n".join(f"    {{{level}u, 0x{crc:08x}u}}," for level, crc in checks.items()),
            adds="\n".join(f"    {line}" for line in adds),
            count=count,
            arena=arena,
            seed=f"0x{seed:08x}u",
        ),
    }
    return Parts(
        contents=Contents.TFLM,
        files=files,
        selftest=selftest,
        levels=levels,
        checks=checks,
        memory=(
            f"Flash: the file of {len(content):,} bytes, besides code. SRAM: the tensor arena; the self-test gives it "
            f"{arena:,} bytes, more than any build should need, and prints what is in use."
        ),
        sram_bytes=arena,
        flash_bytes=len(content),
        use=_fill("selftest/use_tflm.md", name=name, level=levels[-1], count=count, adds="\n".join(adds)),
        facts={"arena_bytes": arena, "file_bytes": len(content)},
    )


def _check_runnable(model: Model) -> None:
    """Refuse what the operators do not do, or the self-test.

    Raises:
        UnsupportedError: There is something like that.
    """
    main = model.graph.main
    for tensor in (*main.input_tensors(), *main.output_tensors()):
        if tensor.dtype.kind not in "iu":
            raise UnsupportedError(
                f"tensor {tensor.label} is {tensor.type}: the self-test compares integers alone",
                "give the model integer inputs and outputs",
            )
    for _, nested in nested_operators(model.graph):
        if any(bits != MASTER_BITS for bits in nested.activation_bits):
            raise UnsupportedError(
                f"operator {nested.operator.label} has levels that read activations at fewer than {MASTER_BITS} bits: "
                "the operators for TensorFlow Lite Micro do not",
                "take the model as C: --contents code",
            )


def _arena_bytes(model: Model) -> int:
    """An arena that is large enough for stock operators on a computer of 64 bits, and with room to spare."""
    return plan_arena(materialize(model), X86_64).needed_bytes * 5 // 4 + _ARENA_MARGIN


def _resolver(model: Model) -> tuple[list[str], int]:
    """Lines that fill TFLM's resolver, and for how many operators."""
    operators = [operator for subgraph in model.graph.subgraphs for operator in subgraph.operators]
    unknown = sorted({item.name for item in operators if item.is_custom and not is_nested(item)})
    if unknown:
        raise UnsupportedError(
            f"the operators {', '.join(unknown)} are custom, and of unknown origin: a component can't contain them"
        )
    stock = sorted({item.name for item in operators if not item.is_custom})
    lines = [f"resolver.{resolver_method(operator)}();" for operator in stock]
    return [*lines, "tflnest::AddOperators(resolver);"], len(stock) + _NESTED_OPERATORS


def resolver_method(operator: str) -> str:
    """The method of `MicroMutableOpResolver` that adds an operator of the schema: AVERAGE_POOL_2D, AddAveragePool2D."""
    if operator in _RESOLVER_NAMES:
        return f"Add{_RESOLVER_NAMES[operator]}"
    words = (word if word[0].isdigit() else word.capitalize() for word in operator.split("_"))
    return "Add" + "".join(words)


def _fill(template: str, **values: object) -> str:
    return Template(read_file(TEMPLATES / template).decode("ascii")).substitute(values)
