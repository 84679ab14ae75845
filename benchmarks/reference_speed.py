"""Speed of the reference interpreter against LiteRT's C++ kernels, one thread, in one run.

    python benchmarks/reference_speed.py [--repeats 7] [--format json] [MODEL.tflite ...]

"ref" is LiteRT with its reference kernels (BUILTIN_REF), which is what the ratios are to; "opt" is LiteRT with
its optimised kernels without XNNPACK, for information. The engines take turns, and the best time of each
counts, so that other load on the machine does not decide.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
DEFAULT_MODELS = ("mobilenet_v2_quantized_1x3x224x224", "vww_96_int8", "pretrainedResnet_quant")
BATCH = 32


def one_thread() -> None:
    """Start this process again with one BLAS thread: BLAS reads the variables when it is loaded."""
    if any(os.environ.get(name) != "1" for name in THREAD_VARIABLES):
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
        os.execv(sys.executable, [sys.executable, *sys.argv])


def best_times(functions: dict[str, Callable[[], Any]], repeats: int, seconds: float) -> dict[str, float]:
    """Best time of each function in seconds; they take turns, for about `seconds` per function and turn."""
    counts = {}
    for name, function in functions.items():
        start = time.perf_counter()
        function()
        counts[name] = max(int(seconds / max(time.perf_counter() - start, 1e-6)), 1)
    best = dict.fromkeys(functions, float("inf"))
    for _ in range(repeats):
        for name, function in functions.items():
            for _ in range(counts[name]):
                start = time.perf_counter()
                function()
                best[name] = min(best[name], time.perf_counter() - start)
    return best


def measure(path: Path, repeats: int) -> dict[str, Any]:
    """Times of one model: milliseconds per inference."""
    import numpy as np

    from tflnest.interpreter import Interpreter
    from tflnest.schema import runtime

    ours = Interpreter(path)
    ours.allocate_tensors()
    detail = ours.get_input_details()[0]
    samples = (
        np.random.default_rng(0).integers(-128, 128, (BATCH, *detail["shape"][1:])).astype(detail["dtype"])
    )
    ours.set_tensor(detail["index"], samples[:1])
    functions: dict[str, Callable[[], Any]] = {"batch_1": ours.invoke}
    module = runtime()
    for name, resolver in (("ref", "BUILTIN_REF"), ("opt", "BUILTIN_WITHOUT_DEFAULT_DELEGATES")):
        theirs = module.Interpreter(
            str(path), num_threads=1, experimental_op_resolver_type=getattr(module.OpResolverType, resolver)
        )
        theirs.allocate_tensors()
        theirs.set_tensor(theirs.get_input_details()[0]["index"], samples[:1])
        functions[name] = theirs.invoke
    functions["batch_32"] = lambda: ours.run(samples)
    best = best_times(functions, repeats, 0.1)
    best["batch_32"] /= BATCH
    milliseconds = {name: 1000.0 * value for name, value in best.items()}
    return {
        "model": path.stem,
        "milliseconds": milliseconds,
        "batch_1_ratio": milliseconds["batch_1"] / milliseconds["ref"],
        "batch_32_ratio": milliseconds["batch_32"] / milliseconds["ref"],
    }


def main() -> None:
    """Measure and print."""
    import click

    @click.command(help=(__doc__ or "").split("\n", maxsplit=1)[0])
    @click.argument("models", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
    @click.option(
        "--repeats", default=7, show_default=True, help="Turns of each engine; the best time counts."
    )
    @click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
    def command(models: tuple[Path, ...], repeats: int, style: str) -> None:
        folder = ROOT.parent / "shared" / "models"
        paths = models or tuple(folder / f"{name}.tflite" for name in DEFAULT_MODELS)
        rows = [measure(path, repeats) for path in paths]
        if style == "json":
            click.echo(json.dumps({"schema": 1, "models": rows}, indent=2))
            return
        click.echo(
            f"{'ms per inference':36} {'ref':>9} {'opt':>9} {'batch 1':>9} {'ratio':>6} {'batch 32':>9} {'ratio':>6}"
        )
        for row in rows:
            ms = row["milliseconds"]
            click.echo(
                f"{row['model']:36} {ms['ref']:9.3f} {ms['opt']:9.3f} {ms['batch_1']:9.3f} "
                f"{row['batch_1_ratio']:6.2f} {ms['batch_32']:9.3f} {row['batch_32_ratio']:6.2f}"
            )

    command()


if __name__ == "__main__":
    one_thread()
    sys.path.insert(0, str(ROOT))
    main()
