"""The delegate in stock LiteRT: time per inference in both modes, and resident memory of the weights.

    python benchmarks/delegate.py [--repeats 9] [--levels 4,6,8] [--megabytes 64] [--format json] [MODEL.tflite ...]

One thread, batch 1, one run; what is compared takes turns, and the best time of each counts, so that other load on
the machine does not decide.

"stock" is the int8 file in LiteRT as it comes, and "speed" the nested file with the delegate in the mode `speed`.
"plain" is the materialized full-bit level in LiteRT without delegates, and "memory" the nested file at each level in
the mode `memory`, without any other delegate. "default" is the full-bit level in the mode `memory` in LiteRT as it comes.

Resident memory is that of the mapped file, as the operating system counts it (/proc/self/smaps), in a process that
runs a model of fully connected layers at 4 bits of 8, then at 8, then at 4 again.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.reference_speed import best_times, one_thread  # noqa: E402

MODELS = ("mobilenet_v2_quantized_1x3x224x224", "pretrainedResnet_quant")

#: Inputs and outputs of a layer of the model whose memory is measured.
WIDTH = 2048

#: Runs the model at level 4, at 8 and at 4 again, and prints the resident bytes of its file each time.
RESIDENT = """\
import sys
import numpy as np
import tflnest
from tflnest.schema import runtime
path = sys.argv[1]
delegate = tflnest.load_delegate(level=4, mode="memory")
interpreter = runtime().Interpreter(path, experimental_delegates=[delegate], num_threads=1)
interpreter.allocate_tensors()
def resident():
    total, inside = 0, False
    for line in open("/proc/self/smaps"):
        if "-" in line.split()[0]:
            inside = line.rstrip().endswith(path)
        elif inside and line.startswith("Rss:"):
            total += int(line.split()[1]) * 1024
    return total
for level in (4, 8, 4):
    tflnest.set_delegate_level(delegate, level)
    interpreter.invoke()
    print(resident())
"""


def time_model(path: Path, levels: tuple[int, ...], repeats: int) -> dict[str, Any]:
    """Times of one model, in milliseconds per inference."""
    import numpy as np

    import tflnest
    from tflnest.schema import runtime

    module = runtime()
    without = {"experimental_op_resolver_type": module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES}
    functions: dict[str, Callable[[], Any]] = {}

    def add(name: str, interpreter: Any) -> None:
        interpreter.allocate_tensors()
        detail = interpreter.get_input_details()[0]
        sample = np.random.default_rng(0).integers(-128, 128, detail["shape"]).astype(detail["dtype"])
        interpreter.set_tensor(detail["index"], sample)
        functions[name] = interpreter.invoke

    with tempfile.TemporaryDirectory() as folder:
        nested = tflnest.convert(path, levels=levels).model
        file = Path(folder) / "nested.tflite"
        nested.save(file)
        add("stock", module.Interpreter(str(path), num_threads=1))
        add("speed", tflnest.stock_interpreter(file, num_threads=1))
        plain = tflnest.materialize(nested).to_bytes()
        add("plain", module.Interpreter(model_content=plain, num_threads=1, **without))
        for level in levels:
            interpreter = tflnest.stock_interpreter(
                file, level=level, mode="memory", num_threads=1, **without
            )
            add(f"memory_{level}", interpreter)
        add("default", tflnest.stock_interpreter(file, mode="memory", num_threads=1))
        best = best_times(functions, repeats, 0.1)
    slowest = max(best[f"memory_{level}"] for level in levels)
    return {
        "model": path.stem,
        "milliseconds": {name: 1000.0 * value for name, value in best.items()},
        "speed_ratio": best["speed"] / best["stock"],
        "memory_ratio": slowest / best["plain"],
    }


def measure_memory(megabytes: int) -> dict[str, Any]:
    """Resident bytes of the weights of a model of fully connected layers, nested in 4 and 8 bits."""
    from tests.models import NetworkBuilder, everything, nested

    network = NetworkBuilder()
    x = network.start((1, WIDTH))
    layers = max(megabytes * (1 << 20) // WIDTH**2, 1)
    for number in range(layers):
        x = network.dense(x, WIDTH, name=f"layer_{number}", per_channel=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.tflite"
        nested(network.finish(x), everything((4, 8))).save(path)
        command = [sys.executable, "-c", RESIDENT, str(path)]
        result = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        size = path.stat().st_size
    part_bit, full_bit, again = (int(line) for line in result.stdout.split())
    return {
        "weights": layers * WIDTH**2,
        "file_bytes": size,
        "resident_at_4": part_bit,
        "resident_at_8": full_bit,
        "resident_at_4_again": again,
        "ratio": part_bit / full_bit,
    }


def print_results(rows: list[dict[str, Any]], memory: dict[str, Any]) -> None:
    """The results as text."""
    import click

    names = list(rows[0]["milliseconds"]) if rows else []
    if rows:
        click.echo(
            f"{'ms per inference':36}{''.join(f' {name:>9}' for name in names)} speed/stock memory/plain"
        )
    for row in rows:
        values = "".join(f" {row['milliseconds'][name]:9.3f}" for name in names)
        click.echo(f"{row['model']:36}{values} {row['speed_ratio']:11.3f} {row['memory_ratio']:12.2f}")
    click.echo(
        f"resident bytes of {memory['weights']:,} weights: {memory['resident_at_4']:,} at level 4, "
        f"{memory['resident_at_8']:,} at level 8 ({100 * memory['ratio']:.1f} %), "
        f"{memory['resident_at_4_again']:,} at level 4 again"
    )


def main() -> None:
    """Measure and print."""
    import click

    @click.command(help=(__doc__ or "").split("\n", maxsplit=1)[0])
    @click.argument("models", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
    @click.option("--repeats", default=9, show_default=True, help="Turns of each; the best time counts.")
    @click.option("--levels", default="4,6,8", show_default=True, help="Levels of the nested files.")
    @click.option("--megabytes", default=64, show_default=True, help="Weights whose memory is measured.")
    @click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
    def command(models: tuple[Path, ...], repeats: int, levels: str, megabytes: int, style: str) -> None:
        folder = ROOT.parent / "shared" / "models"
        known = [folder / f"{name}.tflite" for name in MODELS]
        paths = models or tuple(path for path in known if path.is_file())
        chain = tuple(int(level) for level in levels.split(","))
        rows = [time_model(path, chain, repeats) for path in paths]
        memory = measure_memory(megabytes)
        if style == "json":
            click.echo(json.dumps({"schema": 1, "models": rows, "memory": memory}, indent=2))
        else:
            print_results(rows, memory)

    command()


if __name__ == "__main__":
    one_thread()
    main()
