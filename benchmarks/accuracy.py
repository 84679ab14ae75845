"""Accuracy of nested quantization: our ways and our peers', level by level.

    python -m benchmarks.accuracy [--models resnet8,mobilenet_v2] [--rows nestquant,mixed] [--images 2000]
    python -m benchmarks.accuracy --model MODEL --calibration-data TRAIN.npz --data TEST.npz
    python -m benchmarks.accuracy --ablation --models resnet8 --images 2000

Every row is a set of options of `tflnest.convert`, or a model of one width that nests nothing; every level is
measured on samples that calibration never sees, against the source model (a float source: against its float outputs). A cell is the mean over calibration draws; ± is their standard deviation. The engine is
stock LiteRT, as fast as it goes; `--engine reference` is bit-exact with TFLM and slow. How far the two agree on the
very same int8 model is printed as the noise floor: differences below it say nothing. "Settled" samples are those on
which LiteRT and the exact engine give an int8 source's answer alike: what a level changes there is the level's doing.

Settings are not chosen on what is reported: `--choose` measures on calibration samples that a draw left over.

What the figures mean where several classes share the highest output stands in `scores.py`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import subjects  # noqa: E402
from dedicated import dedicated  # noqa: E402
from rows import ABLATION, LEVELS, MAIN, QUICK, ROWS, WITHOUT_DATA, Chain, Row  # noqa: E402
from scores import Outputs, Score, bits_per_weight, is_tied, score  # noqa: E402
from subjects import SUBJECTS, Subject  # noqa: E402

import tflnest  # noqa: E402
from converters.folding import fix_batch  # noqa: E402
from converters.quantization import quantize  # noqa: E402
from converters.sources import load_source  # noqa: E402
from tflnest.dataset import Dataset  # noqa: E402
from tflnest.model import Model  # noqa: E402
from tflnest.runner import Runner, single_input  # noqa: E402

SCHEMA_VERSION = 1
#: Samples that the noise floor is measured on: without a C compiler the exact engine is slow.
FLOOR_SAMPLES = 200

#: Samples that `--choose` measures on, where a draw leaves as many.
CHOICE_SAMPLES = 2000

#: Measured samples and draws of `--quick`.
QUICK_IMAGES, QUICK_DRAWS = 500, 1

#: Where more samples than this share are settled, they get no table of their own.
SETTLED = 0.97

# ---------------------------------------------------------------------------------------------- measuring


@dataclass
class Cell:
    """One level of one row: a score per draw."""

    chain: Chain
    bits: list[float] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)

    def figure(self, name: str) -> tuple[float, float] | None:
        """Mean and standard deviation over the draws; None where there is nothing to measure."""
        values = self.bits if name == "bits" else [getattr(item, name) for item in self.scores]
        if not values or values[0] is None:
            return None
        return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


@dataclass
class Line:
    """One row of the tables: its cells by level, and the processor seconds of each conversion."""

    key: str
    cells: dict[int, Cell]
    seconds: list[float] = field(default_factory=list)


def run(model: Model, level: int | None, engine: str, data: Dataset) -> Outputs:
    """Outputs of a model as real numbers, (samples, classes)."""
    runner = Runner(model, level, engine)
    outputs = runner.run(data.inputs_for(single_input(model)))[0].astype(np.float64)
    tensor = runner.outputs[0]
    return outputs if tensor.quantization is None else (outputs - tensor.zero_point) * tensor.scale


class Bench:
    """Measures rows on one subject.

    Args:
        subject: Model and samples.
        draws: Calibration draws.
        images: At most so many measured samples.
        engine: "litert" or "reference".
        choose: Measure on what a draw leaves of the calibration samples.
    """

    def __init__(
        self, subject: Subject, draws: int, images: int | None, engine: str, choose: bool = False
    ) -> None:
        self.subject, self.engine, self.choose = subject, engine, choose
        self.draws = [np.random.default_rng(draw).permutation(subject.pool_indices) for draw in range(draws)]
        self._images = images
        self._measured: dict[int, tuple[Dataset, Outputs]] = {}
        self._settled: dict[int, NDArray[np.bool_] | None] = {}
        self.source = load_source(subject.model)

    def calibration(self, draw: int) -> Dataset:
        """The calibration samples of a draw."""
        return self.subject.pool.take(self.draws[draw][: self.subject.calibration])

    def measured(self, draw: int) -> tuple[Dataset, Outputs]:
        """The measured samples and the source's outputs of them."""
        key = draw if self.choose else 0
        if key not in self._measured:
            if self.choose:
                left = self.draws[draw][self.subject.calibration :]
                data = self.subject.pool.take(left[: self._images or CHOICE_SAMPLES])
            else:
                data = self.subject.measured.take(self.subject.measured_indices[: self._images])
            engine = "litert" if self.source.is_float else self.engine
            self._measured[key] = data, run(self.source.model, None, engine, data)
        return self._measured[key]

    def settled(self, draw: int) -> NDArray[np.bool_] | None:
        """On which measured samples two engines give the int8 source's answer alike; None for float sources."""
        key = draw if self.choose else 0
        if key not in self._settled:
            if self.source.is_float:
                self._settled[key] = None
            else:
                data, _ = self.measured(draw)
                answers = [run(self.source.model, None, engine, data) for engine in ("auto", "litert")]
                self._settled[key] = answers[0].argmax(axis=1) == answers[1].argmax(axis=1)
        return self._settled[key]

    def has(self, key: str) -> bool:
        """Whether a row makes sense: a float source can't do without data."""
        return not (self.source.is_float and key in WITHOUT_DATA)

    def measure(self, key: str, levels: Sequence[int] = LEVELS) -> Line:
        """Some levels of a row."""
        row = ROWS[key]
        line = Line(key, {level: Cell(chain) for level, chain in row.chains.items() if level in levels})
        fitted = row.uses_data or self.source.is_float
        for draw in range(len(self.draws) if fitted or self.choose else 1):
            for chain in dict.fromkeys(cell.chain for cell in line.cells.values()):
                report(
                    f"{self.subject.name}: {row.title}, chain {','.join(map(str, chain))}, draw {draw + 1}"
                )
                start = time.process_time()
                made = self._dedicated(row, chain, draw) if row.dedicated else self._nested(row, chain, draw)
                line.seconds.append(time.process_time() - start)
                self._score(made, line, chain, draw)
        report(f"{self.subject.name}: {row.title}: {_summary(line)}")
        return line

    def _nested(self, row: Row, chain: Chain, draw: int) -> Model:
        """The model that a row's options give."""
        options = dict(row.options) | ({"base_bits": self.subject.budget(chain)} if row.budget else {})
        calibration = self.calibration(draw) if row.uses_data or self.source.is_float else None
        return tflnest.convert(
            self.subject.model, levels=chain, calibration=calibration, seed=draw, **options
        ).model

    def _dedicated(self, row: Row, chain: Chain, draw: int) -> Model:
        """A stock model of the chain's one width, on grids of its own."""
        model = fix_batch(self.source.model)
        if not self.source.is_float:
            return dedicated(model, chain[0], row.dedicated)
        result = quantize(model, self.calibration(draw))
        return dedicated(result.model, chain[0], row.dedicated, result.weights)

    def _score(self, model: Model, line: Line, chain: Chain, draw: int) -> None:
        data, source = self.measured(draw)
        nested = model.directory is not None
        for level, cell in line.cells.items():
            if cell.chain == chain:
                cell.bits.append(bits_per_weight(model, level) if nested else float(level))
                outputs = run(model, level if nested else None, self.engine, data)
                cell.scores.append(score(outputs, source, data.labels(), self.settled(draw)))

    def floor(self) -> dict[str, Any]:
        """The source by itself, and how far two engines agree on one int8 model."""
        data, source = self.measured(0)
        own = score(source, source, data.labels())
        few = data.limited(min(len(data), FLOOR_SAMPLES))
        int8 = self.source.model
        if self.source.is_float:
            int8 = tflnest.convert(
                self.subject.model, levels=(8,), recipe="uniform", calibration=self.calibration(0)
            ).int8
        exact, stock = (run(int8, None, engine, few) for engine in ("auto", "litert"))
        compared = score(stock, exact, few.labels())
        settled = self.settled(0)
        return {
            "settled": None if settled is None else int(settled.sum()),
            "top1": own.top1,
            "split_top1": own.split_top1,
            "floor": {"samples": len(few), **vars(compared)},
            "tied": float(is_tied(source).mean()),
            "bits": 32.0 if self.source.is_float else 8.0,
        }


def _summary(line: Line) -> str:
    """A row in a few words: what a run that is broken off leaves."""
    parts = []
    for level, cell in line.cells.items():
        (agreement, _), (divergence, _) = (
            cell.figure("agreement") or (0, 0),
            cell.figure("divergence") or (0, 0),
        )
        parts.append(f"level {level} {100 * agreement:.1f} % KL {divergence:.4f}")
    return ", ".join(parts)


def report(text: str) -> None:
    """Progress, on stderr."""
    click.echo(text, err=True)


# ---------------------------------------------------------------------------------------------- tables

#: Figures of the tables: name, title, factor and digits.
FIGURES = {
    "top1": ("top-1 (%)", 100, 2),
    "agreement": ("agreement with the source (%)", 100, 2),
    "unique_agreement": ("agreement where the source's top is unique (%)", 100, 2),
    "settled_agreement": ("agreement on settled samples (%)", 100, 2),
    "split_agreement": ("agreement, ties split (%)", 100, 2),
    "divergence": ("KL of class probabilities (nats)", 1, 4),
    "bits": ("bits per weight", 1, 2),
}


def document(bench: Bench, lines: Sequence[Line], floor: Mapping[str, Any]) -> dict[str, Any]:
    """One subject for JSON; the tables are made of it."""
    subject = bench.subject
    return {
        "model": subject.name,
        "samples": len(bench.measured(0)[0]),
        "choose": bench.choose,
        "calibration": subject.calibration,
        "draws": len(bench.draws),
        "engine": bench.engine,
        "source": dict(floor),
        "rows": [
            {
                "row": line.key,
                "title": ROWS[line.key].title,
                "seconds": float(np.mean(line.seconds)) if line.seconds else 0.0,
                "levels": [
                    {
                        "level": level,
                        "chain": list(cell.chain),
                        "draws": len(cell.scores),
                        **{name: cell.figure(name) for name in (*FIGURES, "split_top1")},
                    }
                    for level, cell in line.cells.items()
                ],
            }
            for line in lines
        ],
    }


def heading(content: Mapping[str, Any]) -> Iterator[str]:
    """What was measured, and how far to trust it."""
    source, floor = content["source"], content["source"]["floor"]
    of = "calibration samples left over" if content["choose"] else "samples"
    yield (
        f"{content['samples']:,} {of}, engine {content['engine']}; {content['calibration']} calibration samples, "
        f"{content['draws']} draw{'s' if content['draws'] > 1 else ''}."
    )
    if source["top1"] is not None:
        error = 100 * np.sqrt(source["top1"] * (1 - source["top1"]) / content["samples"])
        yield (
            f"Source: top-1 {100 * source['top1']:.2f} % (ties split {100 * source['split_top1']:.2f} %), standard error "
            f"{error:.2f}."
        )
    yield (
        f"Noise floor: LiteRT's default kernels and the reference engine, on the same int8 model and {floor['samples']} "
        f"samples, agree on {100 * floor['agreement']:.1f} % "
        f"({_where_unique(floor)}ties split {100 * floor['split_agreement']:.1f} %), "
        f"KL {floor['divergence']:.4f}. On {100 * source['tied']:.1f} % of all samples the source has ties at the top."
    )

    if source["settled"] is not None:
        yield (
            f"Settled samples, on which both engines give the same answer of the source: {source['settled']:,} of "
            f"{content['samples']:,}."
        )


def _where_unique(floor: Mapping[str, Any]) -> str:
    share = floor["unique_agreement"]
    return "" if share is None else f"where the reference's top is unique {100 * share:.1f} %, "


def table(content: Mapping[str, Any], name: str) -> list[list[str]]:
    """One figure of all rows: a line per row, a column per level; with the bits, processor seconds of a conversion."""
    title, factor, digits = FIGURES[name]
    timed = name == "bits"
    lines = [[title, *(f"level {level}" for level in LEVELS), *(["CPU s"] if timed else [])]]
    own = content["source"].get(name)
    if own is not None:
        full = _cell((own, 0.0), factor, digits)
        lines.append(["source", full, *["-"] * (len(LEVELS) - 1), *(["-"] if timed else [])])
    for row in content["rows"]:
        cells = {item["level"]: item[name] for item in row["levels"]}
        figures = [_cell(cells.get(level), factor, digits) for level in LEVELS]
        lines.append([row["title"], *figures, *([f"{row['seconds']:.1f}"] if timed else [])])
    return lines


def _cell(figure: Sequence[float] | None, factor: float, digits: int) -> str:
    if figure is None:
        return "-"
    mean, spread = (factor * value for value in figure)
    shown = f"{spread:.{digits}f}"
    return f"{mean:.{digits}f}" + (f" ± {shown}" if float(shown) else "")


def show(content: Mapping[str, Any], markdown: bool) -> str:
    """All tables of a subject as text."""
    parts = [f"## {content['model']}\n" if markdown else f"{content['model']}\n{'=' * len(content['model'])}"]
    parts += list(heading(content))
    for name in FIGURES:
        lines = table(content, name)
        if all(cell == "-" for line in lines[1:] for cell in line[1:]):
            continue
        if name == "unique_agreement" and not content["source"]["tied"]:
            continue
        if name == "settled_agreement" and content["source"]["settled"] > SETTLED * content["samples"]:
            continue
        widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
        text = [
            [
                cell.ljust(width) if not column else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            ]
            for line in lines
        ]
        if markdown:
            text.insert(1, ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
        parts.append("")
        parts += [f"| {' | '.join(line)} |" if markdown else "  ".join(line).rstrip() for line in text]
    return "\n".join(parts)


# ---------------------------------------------------------------------------------------------- command line


def _names(text: str | None, known: Sequence[str], what: str) -> list[str]:
    chosen = list(known) if text is None else text.split(",")
    for name in chosen:
        if name not in known:
            raise click.BadParameter(f"there is no {what} {name!r}; there are {', '.join(known)}")
    return chosen


def _subjects(
    models: str | None, files: tuple[Path | None, Path | None, Path | None], calibration: int | None
) -> Iterator[Subject]:
    model, pool, data = files
    if model or pool or data:
        if not (model and pool and data):
            raise click.UsageError("--model, --calibration-data and --data go together")
        yield subjects.given(model, pool, data, calibration or 256)
        return
    for name in _names(models, tuple(SUBJECTS), "model"):
        reason = subjects.missing(name)
        if reason:
            report(f"{name} is left out: {reason}")
            continue
        subject = SUBJECTS[name]()
        yield subject if calibration is None else Subject(**{**vars(subject), "calibration": calibration})


@click.command(help=(__doc__ or "").split("\n\n", maxsplit=1)[0])
@click.option("--models", metavar="NAME,...", help=f"Of {', '.join(SUBJECTS)}. [default: all that are there]")
@click.option("--model", type=click.Path(exists=True, path_type=Path), help="Measure this source instead.")
@click.option(
    "--calibration-data", type=click.Path(exists=True, path_type=Path), help="Its .npz to calibrate."
)
@click.option("--data", type=click.Path(exists=True, path_type=Path), help="Its .npz to measure: x, and y.")
@click.option("--rows", metavar="NAME,...", help=f"Of {', '.join(ROWS)}. [default: {', '.join(MAIN)}]")
@click.option("--ablation", is_flag=True, help="The rows that show what each part is worth.")
@click.option(
    "--quick",
    is_flag=True,
    help=f"{QUICK_IMAGES} samples, {QUICK_DRAWS} draw, and rows {', '.join(QUICK)}, where no other are asked for.",
)
@click.option("--levels", metavar="B,...", help="Of 8,6,5,4,3. [default: all]")
@click.option("--images", type=click.IntRange(1), help="At most so many measured samples. [default: all]")
@click.option("--draws", type=click.IntRange(1), help="Calibration draws. [default: 3]")
@click.option("--calibration", type=click.IntRange(1), help="Samples of a draw. [default: the model's own]")
@click.option("--engine", type=click.Choice(["litert", "reference"]), default="litert", show_default=True)
@click.option("--choose", is_flag=True, help="Measure on calibration samples that a draw left over.")
@click.option("--format", "style", type=click.Choice(["text", "markdown", "json"]), default="text")
def command(
    models: str | None,
    model: Path | None,
    calibration_data: Path | None,
    data: Path | None,
    rows: str | None,
    ablation: bool,
    quick: bool,
    levels: str | None,
    images: int | None,
    draws: int | None,
    calibration: int | None,
    engine: str,
    choose: bool,
    style: str,
) -> None:
    """Measure and print."""
    if rows and ablation:
        raise click.UsageError("--rows and --ablation both choose the rows: leave one of them out")
    default = ",".join(ABLATION if ablation else QUICK if quick else MAIN)
    keys = _names(rows or default, tuple(ROWS), "row")
    images = images or (QUICK_IMAGES if quick else None)
    draws = draws or (QUICK_DRAWS if quick else 3)
    wanted = [int(level) for level in _names(levels, tuple(map(str, LEVELS)), "level")]
    documents = []
    for subject in _subjects(models, (model, calibration_data, data), calibration):
        bench = Bench(subject, draws, images, engine, choose)
        lines = [bench.measure(key, wanted) for key in keys if bench.has(key)]
        documents.append(document(bench, lines, bench.floor()))
        if style != "json":
            click.echo(show(documents[-1], style == "markdown") + "\n")
    if style == "json":
        click.echo(json.dumps({"schema_version": SCHEMA_VERSION, "models": documents}, indent=2))


if __name__ == "__main__":
    command()
