"""What a search of widths finds: under budgets, against uniform widths of the same size, and without parts of it.

    python -m benchmarks.search [--models resnet8] [--tables budgets,uniform,ablation] [--journals FOLDER]
    python -m benchmarks.search --model MODEL --calibration-data TRAIN.npz --data TEST.npz
    python -m benchmarks.search --model FLOAT.keras --calibration-data ... --data ... --tables trained --qat-epochs 1

The search sees training samples alone: some to round or to train on, others, the search validation, to measure its
attempts. What it found is then measured once on the test samples, with the native engine (the bits of the reference
interpreter). Models have the found widths alone (`tflnest search --single`), so that the file is as small as its
filters; `--nested` keeps a full-bit level above them.

Filters are compared with their int8 and float32 sizes as the papers do, and whole files with whole files. ± is the
standard error of a difference on the same samples.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import subjects  # noqa: E402
from subjects import SUBJECTS, Subject  # noqa: E402

from converters.search import Method, Search, search  # noqa: E402
from converters.search.comparison import Comparison, paired_difference  # noqa: E402
from converters.search.searching import CHOICES, MAX_STEPS, PAPER  # noqa: E402
from converters.sources import load_source  # noqa: E402
from tflnest.dataset import Dataset  # noqa: E402
from tflnest.model import Model  # noqa: E402
from tflnest.nesting import MASTER_BITS  # noqa: E402
from tflnest.runner import Runner  # noqa: E402

SCHEMA_VERSION = 1

#: Points that the searches of the tables may lose.
MAX_DROP = 2.0

#: Samples of the search validation.
VALIDATION = 5000

#: How many times smaller than float32 the filters shall be; the largest is 40 % of int8.
FACTORS = (10.0, 7.0)

#: Uniform widths that are compared with searched ones of the same bytes.
UNIFORM = (3, 4, 5)

#: More widths than the paper's.
FINER = (2, 3, 4, 5, 6, 8)

#: What the ablation leaves out, by the title of the row.
ABLATION: Mapping[str, Sequence[Method]] = {
    "sigma only": (Method.SIGMA,),
    "divergence only": (Method.DIVERGENCE,),
    "sigma, then divergence": PAPER,
    "measured losses only": (Method.SENSITIVITY,),
    "all": tuple(Method),
}

TABLES = ("budgets", "uniform", "ablation", "trained")

#: Tables of models that can't be trained, which are the usual ones.
ROUNDED_TABLES = TABLES[:3]

#: What `--quick` takes.
QUICK: Mapping[str, Any] = {"images": 500, "validation": 300, "max_steps": 2, "tables": "budgets"}


@dataclass(frozen=True)
class Setting:
    """What is the same for all searches of a run.

    Attributes:
        subject: Model and samples.
        validation: Samples of the search validation.
        images: Test samples; None for all.
        epochs: Training epochs of every attempt; 0 rounds.
        training: Labelled samples that an attempt is trained on.
        single: Whether models have the found widths alone.
        max_steps: Steps of phase 2.
        journals: Folder of the journals.
        factors: How many times smaller than float32 the filters of the first table shall be.
        seed: Of the searches.
    """

    subject: Subject
    validation: int
    images: int | None
    epochs: int
    training: int
    single: bool
    max_steps: int
    journals: Path
    factors: tuple[float, ...] = FACTORS
    seed: int = 0

    @property
    def journal(self) -> str:
        """Name of the file that keeps the attempts of these settings."""
        kind = "single" if self.single else "nested"
        way = f"{self.epochs}x{self.training}" if self.epochs else "0"
        return f"{self.subject.model.stem}-{kind}-{way}-{self.validation}-{self.seed}.json"


@dataclass
class Found:
    """A model on the test samples.

    Attributes:
        title: What tables call it.
        bits: Bits per weight.
        bytes: Of its filters.
        file_bytes: Of the whole file.
        right: Which test samples it gets right, bool (samples,).
        widths: Of its filters.
        budget: Bytes that it might take.
        attempts: How many were measured to find it; 0 for uniform widths.
        validation_drop: Points lost on the search validation.
        comparison: Against uniform widths on the search validation; None where the search has not both.
        seconds: Processor seconds of this process, of attempts that no journal knew.
    """

    title: str
    bits: float
    bytes: int
    file_bytes: int
    right: NDArray[np.bool_]
    widths: tuple[int, ...] = ()
    budget: int = 0
    attempts: int = 0
    validation_drop: float = 0.0
    comparison: Comparison | None = None
    seconds: float = 0.0

    @property
    def top1(self) -> float:
        """In percent."""
        return 100.0 * float(self.right.mean())


def report(text: str) -> None:
    """Progress, on stderr."""
    click.echo(text, err=True)


def _attempts(stage: str, done: int, total: int) -> None:
    """A line for each attempt of a search, none for what goes before."""
    if stage == "searching":
        report(f"  attempt {done} of {total}")


@dataclass
class Bench:
    """Searches on one subject, and measures what they find.

    Args:
        setting: What is the same for all of them.
    """

    setting: Setting
    _test: Dataset | None = field(default=None, init=False)
    _source: Found | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        subject = self.setting.subject
        used = self.setting.training if self.setting.epochs else subject.calibration
        if len(subject.pool_indices) <= used:
            raise click.UsageError(
                f"{subject.name}: {used:,} of {len(subject.pool_indices):,} samples leave none"
            )
        self.calibration = subject.pool.take(subject.pool_indices[:used])
        self.validation = subject.pool.take(subject.pool_indices[used : used + self.setting.validation])

    @property
    def test(self) -> Dataset:
        """The test samples."""
        if self._test is None:
            self._test = self.setting.subject.measured.take(
                self.setting.subject.measured_indices[: self.setting.images]
            )
        return self._test

    def right(self, model: Model) -> NDArray[np.bool_]:
        """Which test samples a model gets right at its lowest level."""
        runner = Runner(model, None if model.directory is None else model.directory.levels[0])
        outputs = runner.run(self.test.inputs_for(runner.input))[0]
        labels = self.test.labels()
        if labels is None:
            raise click.UsageError(f"{self.setting.subject.name}: the test samples have no labels")
        right: NDArray[np.bool_] = outputs.argmax(axis=1) == labels
        return right

    @property
    def source(self) -> Found:
        """The source as it is."""
        if self._source is None:
            model = load_source(self.setting.subject.model).model
            filters = sum(
                tensor.bytes
                for subgraph in model.graph.subgraphs
                for operator in subgraph.operators
                if operator.name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
                for tensor in [subgraph.tensors[operator.inputs[1]]]
            )
            bits = 8.0 if model.graph.main.input_tensors()[0].type == "INT8" else 32.0
            self._source = Found("source", bits, filters, len(model.to_bytes()), self.right(model))
        return self._source

    @property
    def int8_bytes(self) -> int:
        """Bytes of all filters at 8 bits."""
        return int(self.source.bytes * MASTER_BITS / self.source.bits)

    def search(
        self,
        title: str,
        budget: int,
        widths: Sequence[int] = CHOICES,
        methods: Sequence[Method] = tuple(Method),
        max_drop: float = MAX_DROP,
    ) -> Found:
        """Search under a budget, and measure the best on the test samples."""
        setting, start = self.setting, time.process_time()
        report(f"{setting.subject.name}: {title}, {budget:,} bytes")
        result = search(
            setting.subject.model,
            self.calibration,
            self.validation,
            max_drop=max_drop,
            max_bytes=budget,
            epochs=setting.epochs,
            widths=widths,
            single=setting.single,
            methods=methods,
            max_steps=setting.max_steps,
            journal=setting.journals / setting.journal,
            seed=setting.seed,
            progress=_attempts,
        )
        found = self._found(title, result, budget)
        found.seconds = time.process_time() - start
        report(f"  {found.top1:.2f} % of the test samples, source {self.source.top1:.2f} %")
        return found

    def uniform(self, width: int) -> tuple[Found, Found]:
        """One width for all filters, and what a search finds for the same bytes."""
        alone = search(
            self.setting.subject.model,
            self.calibration,
            self.validation,
            max_drop=100.0,
            max_bytes="100%",
            epochs=self.setting.epochs,
            widths=(width, MASTER_BITS),
            single=self.setting.single,
            methods=(Method.UNIFORM,),
            goal="bytes",
            journal=self.setting.journals / self.setting.journal,
            seed=self.setting.seed,
        )
        one = self._found(f"uniform, {width} bits", alone, alone.result.best.costs.bytes)
        one.attempts = 0
        searched = self.search(f"searched, as many bytes as {width} bits", one.bytes, FINER, max_drop=100.0)
        return one, searched

    def _found(self, title: str, result: Search, budget: int) -> Found:
        best = result.result.best
        return Found(
            title,
            result.mean_bits,
            best.costs.bytes,
            len(result.model.to_bytes()),
            self.right(result.model),
            best.widths,
            budget,
            len(result.result.trajectory),
            best.drop,
            result.result.comparison,
        )


# ---------------------------------------------------------------------------------------------- tables


def difference(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> tuple[float, float]:
    """Points by which the first is better, and the standard error, on the same samples."""
    mean, error = paired_difference(first, second)
    return 100.0 * mean, 100.0 * error


def budgets(bench: Bench) -> Iterator[tuple[Found, Found]]:
    """Searches for filters so many times smaller than float32, with the paper's widths and with finer ones."""
    for factor in bench.setting.factors:
        budget = int(4 * bench.int8_bytes / factor)
        share = budget / bench.int8_bytes
        for name, widths in (("2,4,6,8", CHOICES), (",".join(map(str, FINER)), FINER)):
            title = f"1/{factor:g} of float32, {100 * share:.0f} % of int8; widths {name}"
            yield bench.source, bench.search(title, budget, widths)


def uniform(bench: Bench) -> Iterator[tuple[Found, Found]]:
    """Searches against uniform widths."""
    for width in UNIFORM:
        alone, searched = bench.uniform(width)
        yield bench.source, alone
        yield alone, searched


def ablation(bench: Bench) -> Iterator[tuple[Found, Found]]:
    """Searches at 40 % of int8 with the paper's widths, without parts of the method."""
    for title, methods in ABLATION.items():
        yield bench.source, bench.search(title, int(0.4 * bench.int8_bytes), CHOICES, methods)


def trained(bench: Bench) -> Iterator[tuple[Found, Found]]:
    """Searches at 40 % of int8 with finer widths, whose attempts are rounded, and trained."""
    if not bench.setting.epochs:
        raise click.UsageError("the table trained needs --qat-epochs")
    budget = int(0.4 * bench.int8_bytes)
    rounded = Bench(replace(bench.setting, epochs=0)).search("rounded", budget, FINER)
    yield bench.source, rounded
    yield rounded, bench.search("trained", budget, FINER)


def row(peer: Found, found: Found, bench: Bench) -> dict[str, Any]:
    """One line of a table."""
    gained, error = difference(found.right, peer.right)
    return {
        "title": found.title,
        "against": peer.title,
        "bits": found.bits,
        "bytes": found.bytes,
        "budget": found.budget,
        "share_of_int8": found.bytes / bench.int8_bytes,
        "float32_over_filters": 4 * bench.int8_bytes / found.bytes,
        "file_bytes": found.file_bytes,
        "top1": found.top1,
        "difference": gained,
        "standard_error": error,
        "validation_drop": found.validation_drop,
        "comparison": None if found.comparison is None else found.comparison.to_dict(),
        "attempts": found.attempts,
        "seconds": found.seconds,
        "widths": list(found.widths),
    }


def lead(comparison: Mapping[str, Any] | None) -> str:
    """By how much the best of other widths beat uniform ones on the search validation, and what would be clear."""
    if comparison is None:
        return "-"
    clear = "" if comparison["clear"] else f", {comparison['standard_errors_needed']:.1f} x ± needed"
    return f"{comparison['lead']:.4f} ± {comparison['standard_error']:.4f}{clear}"


COLUMNS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "": lambda item: item["title"],
    "bits": lambda item: f"{item['bits']:.2f}",
    "filters": lambda item: f"{item['bytes']:,}",
    "of int8": lambda item: f"{100 * item['share_of_int8']:.1f} %",
    "float32 /": lambda item: f"{item['float32_over_filters']:.1f}",
    "file": lambda item: f"{item['file_bytes']:,}",
    "top-1": lambda item: f"{item['top1']:.2f}",
    "difference": lambda item: f"{item['difference']:+.2f} ± {item['standard_error']:.2f}",
    "against": lambda item: item["against"],
    "validation drop": lambda item: f"{item['validation_drop']:.2f}",
    "validation lead over uniform": lambda item: lead(item["comparison"]),
    "attempts": lambda item: str(item["attempts"] or "-"),
    "widths": lambda item: " ".join(map(str, item["widths"])),
}


def show(title: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """A table as Markdown."""
    lines = [list(COLUMNS), *([cell(item) for cell in COLUMNS.values()] for item in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    text = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    text.insert(1, ["-" * width for width in widths])
    return "\n".join([f"### {title}", "", *(f"| {' | '.join(line)} |" for line in text), ""])


def heading(bench: Bench) -> str:
    """What was measured."""
    setting, source = bench.setting, bench.source
    way = (
        f"attempts are trained on {len(bench.calibration):,} training samples, {setting.epochs} times"
        if setting.epochs
        else f"attempts are rounded on {len(bench.calibration):,} training samples"
    )
    return (
        f"## {setting.subject.name}\n\nSource: {source.top1:.2f} % of {len(bench.test):,} test samples, "
        f"{source.bytes:,} bytes of filters, file {source.file_bytes:,} bytes. {way}; the search validation is "
        f"{len(bench.validation):,} other training samples.\n"
    )


# ---------------------------------------------------------------------------------------------- command line


def _subjects(models: str, files: tuple[Path | None, Path | None, Path | None]) -> Iterator[Subject]:
    model, pool, data = files
    if model or pool or data:
        if not (model and pool and data):
            raise click.UsageError("--model, --calibration-data and --data go together")
        yield subjects.given(model, pool, data, 256)
        return
    for name in models.split(","):
        if name not in SUBJECTS:
            raise click.BadParameter(f"there is no model {name!r}; there are {', '.join(SUBJECTS)}")
        reason = subjects.missing(name)
        if reason:
            report(f"{name} is left out: {reason}")
            continue
        yield SUBJECTS[name]()


@click.command(help=(__doc__ or "").split("\n\n", maxsplit=1)[0])
@click.option(
    "--models", default="resnet8", show_default=True, metavar="NAME,...", help="Of the accuracy tables."
)
@click.option("--model", type=click.Path(exists=True, path_type=Path), help="Search this source instead.")
@click.option(
    "--calibration-data", type=click.Path(exists=True, path_type=Path), help="Its training .npz: x, y."
)
@click.option("--data", type=click.Path(exists=True, path_type=Path), help="Its test .npz: x, y.")
@click.option(
    "--tables",
    default=",".join(ROUNDED_TABLES),
    show_default=True,
    metavar="NAME,...",
    help="trained is one more, for float models.",
)
@click.option("--validation", type=click.IntRange(2), default=VALIDATION, show_default=True, metavar="N")
@click.option("--images", type=click.IntRange(2), metavar="N", help="Test samples. [default: all]")
@click.option(
    "--qat-epochs", type=click.IntRange(0), default=0, help="Train attempts so long. [default: round]"
)
@click.option("--training", type=click.IntRange(2), default=20000, show_default=True, metavar="N")
@click.option(
    "--factors",
    default=",".join(f"{factor:g}" for factor in FACTORS),
    show_default=True,
    metavar="N,...",
    help="How many times smaller than float32 the table of budgets asks for.",
)
@click.option("--nested", is_flag=True, help="Keep a full-bit level above the found widths.")
@click.option("--max-steps", type=click.IntRange(0), default=MAX_STEPS, show_default=True, metavar="N")
@click.option(
    "--journals", type=click.Path(file_okay=False, path_type=Path), help="Folder that keeps attempts."
)
@click.option("--quick", is_flag=True, help="Few samples, few steps, one table.")
@click.option(
    "--format", "style", type=click.Choice(["markdown", "json"]), default="markdown", show_default=True
)
def command(
    models: str,
    model: Path | None,
    calibration_data: Path | None,
    data: Path | None,
    tables: str,
    validation: int,
    images: int | None,
    qat_epochs: int,
    training: int,
    factors: str,
    nested: bool,
    max_steps: int,
    journals: Path | None,
    quick: bool,
    style: str,
) -> None:
    """Search, measure and print."""
    if quick:
        images, validation = images or QUICK["images"], min(validation, QUICK["validation"])
        max_steps, tables = min(max_steps, QUICK["max_steps"]), QUICK["tables"]
    makers: dict[str, Callable[[Bench], Iterator[tuple[Found, Found]]]] = dict(
        zip(TABLES, (budgets, uniform, ablation, trained), strict=True)
    )
    names = tables.split(",")
    if unknown := set(names) - set(makers):
        raise click.BadParameter(f"there is no table {min(unknown)!r}; there are {', '.join(TABLES)}")
    try:
        sizes = tuple(float(factor) for factor in factors.split(","))
    except ValueError:
        raise click.BadParameter(f"{factors!r} is no list of numbers") from None
    documents = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = journals or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for subject in _subjects(models, (model, calibration_data, data)):
            setting = Setting(
                subject, validation, images, qat_epochs, training, not nested, max_steps, folder, sizes
            )
            bench = Bench(setting)
            if style == "markdown":
                click.echo(heading(bench))
            found: dict[str, list[dict[str, Any]]] = {}
            for name in names:
                found[name] = [row(peer, item, bench) for peer, item in makers[name](bench)]
                if style == "markdown":
                    click.echo(show(name, found[name]))
            documents.append(
                {
                    "model": subject.name,
                    "source_top1": bench.source.top1,
                    "images": len(bench.test),
                    "tables": found,
                }
            )
    if style == "json":
        click.echo(json.dumps({"schema_version": SCHEMA_VERSION, "models": documents}, indent=2))


if __name__ == "__main__":
    command()
