"""C text of what a controller adds to generated firmware: the choice of widths, and activations at fewer bits."""

from __future__ import annotations

from collections.abc import Sequence

from firmware_sim.firmware.names import wrapped
from firmware_sim.firmware.program import Choosing, DeviceProgram, DeviceStep

#: Row of an operator without levels of its own.
_NO_ROW = 0xFFFF


def narrow_function() -> list[str]:
    """A function that reads values at some bits; at 8 it copies them."""
    return [
        "static void narrow(const int8_t *input, int8_t *output, int32_t size, uint8_t bits)",
        "{",
        "    const tflnest_narrow_params params = {.size = size, .bits = bits};",
        "",
        "    tflnest_narrow_s8(&params, input, output);",
        "}",
    ]


def activation_bits(step: DeviceStep, levels: int) -> list[str]:
    """The bits at which an operator reads its activation, for each of its levels.

    Args:
        step: The operator.
        levels: How many of its levels the firmware has.
    """
    assert step.nested is not None
    values = ", ".join(str(bits) for bits in step.nested.activation_bits[:levels])
    return [f"static const uint8_t operator_{step.operator.index}_activation_bits[{levels}] = {{{values}}};"]


def variables(choosing: Choosing) -> list[str]:
    """What was chosen in the last inference."""
    return ["", f"uint8_t model_widths[{len(choosing.operators)}][2];"]


def declaration(choosing: Choosing) -> list[str]:
    """The same for `model.h`."""
    named = ", ".join(str(index) for index in choosing.operators)
    return [
        f"/* What the controller chose in the last inference, for the operators {named}:",
        " * position of the operator's own level, and bits at which it reads its activation. */",
        f"#define MODEL_CONTROLLED {len(choosing.operators)}u",
        f"extern uint8_t model_widths[{len(choosing.operators)}][2];",
        "",
    ]


def choose_function(choosing: Choosing, program: DeviceProgram) -> list[str]:
    """The function that reads the logits: the first largest one of every operator."""
    rows = {step.operator.index: row for row, step in enumerate(program.nested_steps)}
    count, choices = len(choosing.operators), len(choosing.activation_bits)
    levels = [f"{{{', '.join(map(str, positions))}}}" for positions in choosing.positions]
    return [
        "/* Own level of every controlled operator at every choice; the bits of the choices; where each operator's",
        " * present level stands, which is the highest that may run. */",
        f"static const uint8_t choice_levels[{count}][{choices}] = {{",
        *wrapped(levels),
        "};",
        f"static const uint8_t choice_bits[{choices}] = {{{_joined(choosing.activation_bits)}}};",
        f"static const uint16_t choice_rows[{count}] = {{",
        *wrapped([f"{rows.get(index, _NO_ROW)}u" for index in choosing.operators]),
        "};",
        "",
        "static void choose(const int8_t *logits, const uint8_t *at)",
        "{",
        f"    for (uint32_t i = 0; i < {count}u; i++) {{",
        "        uint32_t best = 0;",
        "",
        f"        for (uint32_t j = 1; j < {choices}u; j++) {{",
        "            if (logits[j] > logits[best]) {",
        "                best = j;",
        "            }",
        "        }",
        f"        logits += {choices};",
        "        model_widths[i][0] = choice_levels[i][best];",
        f"        if (choice_rows[i] != {_NO_ROW}u && model_widths[i][0] > at[choice_rows[i]]) {{",
        "            model_widths[i][0] = at[choice_rows[i]];",
        "        }",
        "        model_widths[i][1] = choice_bits[best];",
        "    }",
        "}",
        "",
    ]


def _joined(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))
