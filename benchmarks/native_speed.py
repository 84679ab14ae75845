"""Speed of the native engine against LiteRT's C++ kernels: one thread, batch 1, in one run.

    python benchmarks/native_speed.py [--repeats 7] [--levels 4,6,8] [--format json] [MODEL.tflite ...]

"ref" is LiteRT with its reference kernels (BUILTIN_REF); "opt" is LiteRT with its optimised kernels and no
delegate. "native" is the device's portable C, compiled for this machine. With --levels, each model is also nested
in that chain and run at every level, from packed planes. The engines take turns, and the best time of each
counts, so that other load on the machine does not decide.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.reference_speed import DEFAULT_MODELS, best_times, one_thread  # noqa: E402


def measure(path: Path, levels: tuple[int, ...], repeats: int) -> dict[str, Any]:
    """Times of one model, in milliseconds per inference."""
    import numpy as np

    import tflnest
    from tflnest.interpreter import Interpreter
    from tflnest.schema import runtime

    detail = Interpreter(path).get_input_details()[0]
    sample = np.random.default_rng(0).integers(-128, 128, detail["shape"]).astype(detail["dtype"])
    functions: dict[str, Callable[[], Any]] = {}
    module = runtime()
    for name, resolver in (("ref", "BUILTIN_REF"), ("opt", "BUILTIN_WITHOUT_DEFAULT_DELEGATES")):
        theirs = module.Interpreter(
            str(path), num_threads=1, experimental_op_resolver_type=getattr(module.OpResolverType, resolver)
        )
        theirs.allocate_tensors()
        theirs.set_tensor(theirs.get_input_details()[0]["index"], sample)
        functions[name] = theirs.invoke

    def native(name: str, **options: Any) -> Interpreter:
        ours = Interpreter(engine="native", **options)
        ours.allocate_tensors()
        ours.set_tensor(detail["index"], sample)
        functions[name] = ours.invoke
        return ours

    plain = native("native", model_path=path)
    if levels:
        nested = tflnest.convert(path, levels=levels).model
        for level in levels:
            native(f"level_{level}", model=nested, level=level)
    times = {name: 1000.0 * value for name, value in best_times(functions, repeats, 0.1).items()}
    return {
        "model": path.stem,
        "milliseconds": times,
        "times_faster_than_ref": times["ref"] / times["native"],
        "times_faster_than_opt": times["opt"] / times["native"],
        "fallbacks": plain.fallbacks,
    }


def print_table(rows: list[dict[str, Any]]) -> None:
    """The rows as text."""
    import click

    names = [name for name in rows[0]["milliseconds"] if name not in ("ref", "opt")]
    heads = "".join(f" {name:>9}" for name in ("ref", "opt", *names))
    click.echo(f"{'ms per inference':36}{heads} {'ref/native':>11} {'opt/native':>11}")
    for row in rows:
        values = "".join(f" {row['milliseconds'][name]:9.3f}" for name in ("ref", "opt", *names))
        click.echo(
            f"{row['model']:36}{values} {row['times_faster_than_ref']:10.1f}x {row['times_faster_than_opt']:10.2f}x"
        )
        if row["fallbacks"]:
            click.echo(f"  by the reference kernels: {', '.join(row['fallbacks'])}")


def main() -> None:
    """Measure and print."""
    import click

    @click.command(help=(__doc__ or "").split("\n", maxsplit=1)[0])
    @click.argument("models", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
    @click.option(
        "--repeats", default=7, show_default=True, help="Turns of each engine; the best time counts."
    )
    @click.option(
        "--levels", metavar="B,B,...", help="Also nest the models in this chain and run its levels."
    )
    @click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
    def command(models: tuple[Path, ...], repeats: int, levels: str | None, style: str) -> None:
        folder = ROOT.parent / "shared" / "models"
        paths = models or tuple(folder / f"{name}.tflite" for name in DEFAULT_MODELS)
        chain = tuple(int(part) for part in levels.split(",")) if levels else ()
        rows = [measure(path, chain, repeats) for path in paths]
        if style == "json":
            click.echo(json.dumps({"schema": 1, "models": rows}, indent=2))
        else:
            print_table(rows)

    command()


if __name__ == "__main__":
    one_thread()
    main()
