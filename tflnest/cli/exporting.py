"""`tflnest export`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tflnest.cli import ui
from tflnest.errors import UsageError
from tflnest.files import check_writable
from tflnest.materialization import materialize
from tflnest.model import Model

if TYPE_CHECKING:
    from converters.exporting.int4 import Int4Export
    from converters.exporting.lookup_table import LookupTableExport
    from converters.exporting.planes import PlaneExport

#: What a file can be written for.
FILES = ("tflm-lut", "tflm-decode", "int4")

#: What a folder can be written for.
FOLDERS = ("cmake", "arduino", "esp-idf", "zephyr")

#: Options that only some targets take.
_OWN = {"data": ("int4",), "limit": ("int4",), "contents": FOLDERS, "pages": FOLDERS, "name": FOLDERS}

_CONTENTS = {"code": "the model as C", "tflm": "the nested file, with operators for TensorFlow Lite Micro"}


@click.command("export", short_help="Write a model for other runtimes and build systems.")
@click.argument("file", type=click.Path())
@click.option(
    "--for",
    "target",
    type=click.Choice([*FILES, *FOLDERS]),
    required=True,
    help="tflm-lut: lookup tables, which stock TensorFlow Lite Micro decodes. tflm-decode: planes, which it decodes with a "
    "type of tflnest. int4: INT4 filters. The others: a library for that build system.",
)
@click.option(
    "--level",
    type=int,
    metavar="B",
    help="Level to write; of a library and of tflm-decode the highest one. [default: full-bit; int4: the lowest]",
)
@click.option(
    "--data",
    type=click.Path(),
    metavar="FILE",
    help="int4: samples that biases are corrected and agreement is measured on: .npz with key x, or .npy.",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="int4: only the first N samples.")
@click.option(
    "--contents",
    type=click.Choice(["code", "tflm"]),
    help="Libraries: the model as C, or the nested file with operators for TensorFlow Lite Micro. [default: code]",
)
@click.option(
    "--pages",
    type=click.Choice(["flash", "sram", "host"]),
    help="Libraries of code: where the lower-bit pages rest. [default: flash]",
)
@click.option("--name", metavar="NAME", help="Libraries: what it is called. [default: from the name of FILE]")
@click.option("-o", "--output", type=click.Path(), metavar="PATH", required=True, help="Where to write.")
@click.option("-f", "--force", is_flag=True, help="Overwrite the output.")
@ui.output_options
def command(
    file: str,
    target: str,
    output: str,
    force: bool,
    output_format: str,
    quiet: bool,
    no_progress: bool,
    **options: Any,
) -> None:
    """Write FILE, or one level of it, in the form that a runtime or a build system takes.

    tflm-lut: filters become indices into a table of values. Stock TensorFlow Lite Micro runs the file with
    `AddDecode()`, and gives the outputs of the level, bit for bit.

    tflm-decode: operators become stock ones, for the kernels that an application has, and TensorFlow Lite Micro writes the
    filters of the level that was chosen for them: all levels in one file, with a few files of C++ from tflnest.

    int4: filters of up to 4 bits become INT4 tensors, two weights in a byte, which stock runtimes compute with as
    they are. It says which filters keep the level's weights, and which had to be rounded anew.

    cmake, arduino, esp-idf, zephyr: a folder with the model and its kernels in C, build files, and an example that runs
    every level and checks its outputs. Nothing is built.

    \b
    Examples:
      tflnest export nested.tflite --for tflm-lut --level 6 -o six.tflite
      tflnest export nested.tflite --for tflm-decode -o decoded.tflite
      tflnest export nested.tflite --for int4 --data train.npz -o int4.tflite
      tflnest export nested.tflite --for zephyr -o component
    """
    screen = ui.screen(output_format, quiet, no_progress)
    for name, targets in _OWN.items():
        if options[name] is not None and target not in targets:
            raise UsageError(f"--{name} is of no use for {target}", f"it is for {', '.join(targets)}")
    given = {name: value for name, value in options.items() if value is not None}
    if target in FOLDERS:
        _component(screen, file, target, output, force, given)
        return
    check_writable(output, force)
    if target == "tflm-lut":
        _lookup_tables(screen, file, output, force, options["level"])
    elif target == "tflm-decode":
        _planes(screen, file, output, force, options["level"])
    else:
        _int4(screen, file, output, force, options["level"], options["data"], options["limit"])


def _component(
    screen: ui.Screen, file: str, target: str, output: str, force: bool, options: dict[str, Any]
) -> None:
    from firmware_sim.component.exporting import export_component
    from firmware_sim.firmware.project import check_folder

    check_folder(output, force)
    made = export_component(file, target, **options)
    made.write(output, force)
    screen.json({"input": file, "output": output, **made.to_dict()})
    screen.facts(
        [
            ("library", f"{made.name} for {target}: {_CONTENTS[str(made.parts.contents)]}"),
            ("levels", ", ".join(map(str, made.parts.levels))),
            ("memory", made.parts.memory),
            ("example", "runs every level, and compares the outputs with those computed here"),
        ]
    )
    screen.line(f"wrote {output}")


def _lookup_tables(screen: ui.Screen, file: str, output: str, force: bool, level: int | None) -> None:
    from converters.exporting.lookup_table import export_lookup_tables
    from firmware_sim.arena import plan_arena

    source = Model.load(file)
    made = export_lookup_tables(source, level)
    made.model.save(output, force)
    stock = source if made.level is None else materialize(source, made.level)
    heads = {
        "head_bytes": plan_arena(made.model).head_bytes,
        "int8_head_bytes": plan_arena(stock).head_bytes,
    }
    screen.json({"input": file, "target": "tflm-lut", "output": output, **made.to_dict(), **heads})
    encoded = len(made.filters) - len(made.flat)
    screen.facts(
        [
            ("level", _named(made)),
            ("filters", f"{encoded} of {len(made.filters)} as lookup tables"),
            (
                "SRAM",
                f"{ui.size(heads['head_bytes'])} for activations and decoded filters, {ui.size(heads['int8_head_bytes'])} "
                f"as int8; the largest filter takes {ui.size(made.decoded_bytes)}",
            ),
            ("file", _against(made.bytes, made.int8_bytes)),
        ]
    )
    for item in made.flat:
        screen.note(f"operator {item.operator} ({item.kind}) {item.name} stays int8: {item.reason}")
    screen.line(f"wrote {output}: for stock TensorFlow Lite Micro with AddDecode()")


def _planes(screen: ui.Screen, file: str, output: str, force: bool, level: int | None) -> None:
    from converters.exporting.planes import export_planes
    from firmware_sim.arena import plan_arena

    source = Model.load(file)
    made = export_planes(source, level)
    made.model.save(output, force)
    heads = {
        "head_bytes": plan_arena(made.model).head_bytes,
        "int8_head_bytes": plan_arena(materialize(source, made.level)).head_bytes,
    }
    screen.json({"input": file, "target": "tflm-decode", "output": output, **made.to_dict(), **heads})
    screen.facts(
        [
            ("levels", f"{', '.join(map(str, made.levels))}; {made.level} unless the application chooses"),
            ("filters", _decoded(made)),
            (
                "SRAM",
                f"{ui.size(heads['head_bytes'])} for activations and decoded filters, {ui.size(heads['int8_head_bytes'])} "
                f"as int8; the largest filter takes {ui.size(made.decoded_bytes)}",
            ),
            (
                "file",
                f"{_against(made.bytes, made.int8_bytes)}; the nested file has {ui.size(made.nested_bytes)}",
            ),
        ]
    )
    screen.line(f"wrote {output}: for TensorFlow Lite Micro with AddDecode() and tflnest_tflm_decode.h")


def _decoded(made: PlaneExport) -> str:
    decoded = [item for item in made.filters if item.decoded_bytes]
    biases = sum(item.bias_bytes > 0 for item in decoded)
    return f"{len(decoded)} are decoded, {biases} with a bias of each level"


def _named(made: LookupTableExport) -> str:
    return "the model as it is" if made.level is None else str(made.level)


def _against(count: int, int8: int) -> str:
    return f"{ui.size(count)}, {100 * count / int8:.1f} % of the int8 model ({ui.size(int8)})"


def _int4(
    screen: ui.Screen,
    file: str,
    output: str,
    force: bool,
    level: int | None,
    data: str | None,
    limit: int | None,
) -> None:
    from converters.exporting.int4 import export_int4
    from tflnest.comparison import compare
    from tflnest.dataset import load_dataset

    source = Model.load(file)
    dataset = None if data is None else load_dataset(data).limited(limit)
    with screen.progress() as progress:
        made = export_int4(source, level, dataset, progress=progress)
        agreement = None
        if dataset is not None:
            agreement = compare(source, made.twin, dataset, first_level=made.level, progress=progress)
    made.model.save(output, force)
    screen.json(
        {
            "input": file,
            "target": "int4",
            "output": output,
            **made.to_dict(),
            "agreement": None if agreement is None else agreement.agreement,
            "identical_samples": None if agreement is None else agreement.identical_samples,
            "samples": None if agreement is None else agreement.samples,
        }
    )
    _show_int4(screen, made)
    if agreement is not None:
        screen.line(
            f"same class as level {made.level} on {ui.percent(agreement.agreement)} of {agreement.samples:,} "
            f"samples, the very same outputs on {agreement.identical_samples:,}"
        )
    else:
        screen.note("--data FILE corrects biases on real samples, and tells how often the classes agree")
    screen.line(f"wrote {output}: {_against(made.bytes, made.int8_bytes)}")


def _show_int4(screen: ui.Screen, made: Int4Export) -> None:
    screen.line(f"level {made.level} with INT4 filters, beside the level; measured on {made.measured_on}")
    screen.table(
        ["filter", "operator", "bits", "as", "error of weights", "of the level", "outputs differ by"],
        [
            (
                item.name,
                f"{item.operator} {item.kind}",
                item.bits,
                "int8: " + item.reason if item.reason else item.form,
                "-" if item.reason else ui.percent(item.weight_error),
                "-" if item.reason else ui.percent(item.level_error),
                f"{item.output_difference:.2f}",
            )
            for item in made.filters
        ],
        left=("filter", "operator", "as"),
    )
    if any(item.form == "rounded" for item in made.filters):
        screen.note("rounded filters are not those of the level: INT4 has no code for the middle of a bucket")
