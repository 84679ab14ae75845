"""Bit-exactness of the interpreter, operator by operator, against an engine of others.

    python benchmarks/exactness.py [--inputs 20] [--data FILE.npz] [--levels 4,6,8] [--engine native] [--format json] [MODEL.tflite ...]

Every output of every operator is compared; with --levels also those of every level of the nested model, whose
oracle runs the stock file that `materialize` makes of the level. The oracle is TensorFlow Lite Micro from the `tflite_micro` wheel,
or LiteRT's reference kernels with `--oracle litert`. Inputs are random, or the samples `x` of an .npz file.
Exit code 4 where anything differs.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import tflnest  # noqa: E402
from tests.exactness import Exactness, compare, given_inputs, random_inputs  # noqa: E402
from tests.oracle import MicroOracle, OracleError, ReferenceOracle, WorkerOracle  # noqa: E402
from tests.shared import SHARED, int8_paths  # noqa: E402
from tflnest.errors import ExitCode, TflnestError  # noqa: E402
from tflnest.interpreter import ENGINES, Interpreter  # noqa: E402

ORACLES: dict[str, type[MicroOracle] | type[ReferenceOracle]] = {
    "tflm": MicroOracle,
    "litert": ReferenceOracle,
}
SCHEMA_VERSION = 1


def measure(oracle: WorkerOracle, path: Path, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of one model: as it is, and at every level."""
    inputs = inputs_of(path, arguments)
    engine = arguments.engine
    rows = [row_of(oracle, path.name, None, path.read_bytes(), inputs, Interpreter(path, engine=engine))]
    if not arguments.levels:
        return rows
    levels = tuple(int(part) for part in arguments.levels.split(","))
    nested = tflnest.convert(path, levels=levels).model
    for level in levels:
        stock = tflnest.materialize(nested, level).to_bytes()
        ours = Interpreter(model=nested, level=level, engine=engine)
        rows.append(row_of(oracle, path.name, level, stock, inputs, ours))
    return rows


def row_of(
    oracle: WorkerOracle,
    name: str,
    level: int | None,
    stock: bytes,
    inputs: list[list[Any]],
    interpreter: Interpreter,
) -> dict[str, Any]:
    """One row of the table; where the oracle gives no answer, the row says why."""
    row = {"model": name, "level": level, "error": None}
    try:
        return row | asdict(compare(oracle, stock, inputs, interpreter))
    except OracleError as error:
        return row | asdict(Exactness(oracle.name)) | {"error": " ".join(str(error).split())[:200]}


def inputs_of(path: Path, arguments: argparse.Namespace) -> list[list[Any]]:
    """Random inputs, or those of the command line."""
    model = path.read_bytes()
    if arguments.data is None:
        return random_inputs(model, arguments.inputs, arguments.seed)
    with np.load(arguments.data) as data:
        return given_inputs(model, data["x"], arguments.inputs)


def print_table(rows: list[dict[str, Any]]) -> None:
    """The rows as text."""
    width = max(len(row["model"]) for row in rows)
    print(
        f"{'model':{width}}  level  {'oracle':16} {'inputs':>6} {'operators':>9} {'values':>13} {'mismatches':>10}"
    )
    for row in rows:
        print(
            f"{row['model']:{width}}  {row['level'] or 'plain':>5}  {row['oracle']:16} {row['inputs']:6} {row['operators']:9} "
            f"{row['values']:13,} {row['mismatches']:10,}"
        )
        if row["error"]:
            print(f"{'':{width}}    {row['error']}")
        for label, count in row["differing"].items():
            print(f"{'':{width}}    operator {label}: {count:,}")


def main() -> int:
    """Compare the models of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "models",
        nargs="*",
        type=Path,
        metavar="MODEL.tflite",
        help="default: int8 models in ../shared/models",
    )
    parser.add_argument("--levels", metavar="B,B,...", help="also nest each model and compare these levels")
    parser.add_argument("--inputs", type=int, default=20, help="invokes per model (default 20)")
    parser.add_argument(
        "--data", type=Path, metavar="FILE.npz", help="samples with key x instead of random ones"
    )
    parser.add_argument("--oracle", choices=ORACLES, default="tflm")
    parser.add_argument(
        "--engine", choices=ENGINES, default=ENGINES[0], help="which of ours (default reference)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the random inputs (default 0)")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    arguments = parser.parse_args()
    models = arguments.models or int8_paths()
    if not models:
        parser.error(f"there are no models in {SHARED / 'models'}; name some")
    if arguments.oracle == "tflm" and not MicroOracle.available():
        print("the package tflite_micro is not installed; take --oracle litert", file=sys.stderr)
        return ExitCode.FAILED
    with ORACLES[arguments.oracle]() as oracle:
        try:
            rows = [row for path in models for row in measure(oracle, path, arguments)]
        except (TflnestError, OSError, KeyError, ValueError) as error:
            print(error, file=sys.stderr)
            return ExitCode.FAILED
    if arguments.format == "json":
        document = {"schema_version": SCHEMA_VERSION, "engine": arguments.engine, "models": rows}
        print(json.dumps(document, indent=2))
    else:
        print_table(rows)
    if any(row["mismatches"] for row in rows):
        return ExitCode.VERIFICATION
    return ExitCode.FAILED if any(row["error"] for row in rows) else ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
