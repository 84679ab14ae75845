"""What the command line shows: results on stdout, progress and errors on stderr."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem
from rich import box
from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar
from rich.table import Table
from rich.text import Text

from tflnest.errors import ExitCode, TflnestError
from tflnest.progress import Progress, silent
from tflnest.version import JSON_SCHEMA_VERSION

#: What the engines of `eval` and `compare` are.
ENGINE_HELP = (
    "reference: bit-exact with TFLM; native: the same bits from the device's C kernels, faster; "
    "litert: stock TensorFlow Lite; auto: litert for float models, native for others, reference without a C compiler."
)

#: Work shorter than this shows no progress.
PROGRESS_DELAY_S = 2.0

#: Columns of a table that goes to a file or a pipe.
WIDE = 200

#: Progress lines per stage where stderr is no terminal.
STEPS = 10

if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:  # older versions of click have no type arguments
    _ParamType = click.ParamType

Command = TypeVar("Command", bound=Callable[..., Any])


class Screen:
    """Where a verb writes.

    Args:
        output_format: "text" or "json".
        quiet: No progress and no notes.
        show_progress: Whether progress may be shown at all.
    """

    def __init__(self, output_format: str = "text", quiet: bool = False, show_progress: bool = True) -> None:
        self.output_format = output_format
        self.quiet = quiet
        # Where nobody looks at a terminal, tables take the room they need.
        self.console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)
        self.errors = error_console()
        # A program that reads JSON finds an error document on stderr, or nothing.
        self.show_progress = show_progress and not quiet and (self.errors.is_terminal or not self.is_json)

    @property
    def is_json(self) -> bool:
        """Whether stdout takes one JSON document and nothing else."""
        return self.output_format == "json"

    def line(self, text: str = "") -> None:
        """A line of a text result."""
        if not self.is_json:
            self.console.print(text, markup=False, soft_wrap=True)

    def facts(self, rows: Iterable[tuple[str, str]]) -> None:
        """Lines of a text result, each with a name; long ones are folded under their start."""
        if self.is_json:
            return
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")
        for name, value in rows:
            grid.add_row(Text(name), Text(value))
        self._print_lines(grid)

    def note(self, text: str) -> None:
        """Something the user should know, on stderr; JSON documents have it among their keys."""
        if not self.quiet and not self.is_json:
            self.errors.print(f"note: {text}", markup=False, soft_wrap=not self.errors.is_terminal)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Any]], left: Sequence[str] = ()) -> None:
        """A table of a text result; columns are right-aligned but for those in `left`, which may fold."""
        if self.is_json:
            return
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
        for column in columns:
            table.add_column(
                column,
                justify="left" if column in left else "right",
                no_wrap=column not in left,
                overflow="fold",
            )
        for row in rows:
            table.add_row(*(Text(str(cell)) for cell in row))
        self._print_lines(table)

    def _print_lines(self, content: Table) -> None:
        """Print without the blanks that fill up lines."""
        with self.console.capture() as capture:
            self.console.print(content)
        for line in capture.get().splitlines():
            click.echo(line.rstrip())

    def json(self, document: dict[str, Any]) -> None:
        """The JSON result; does nothing in text mode."""
        if self.is_json:
            click.echo(_json({"schema_version": JSON_SCHEMA_VERSION, **document}))

    @contextmanager
    def progress(self, unit: str = "") -> Iterator[Progress]:
        """A progress callback: a bar on a terminal, lines elsewhere, nothing for short work.

        Args:
            unit: What is counted, where its rate is of interest: "B".
        """
        if not self.show_progress:
            yield silent
        elif self.errors.is_terminal:
            with _Bar(self.errors, unit) as bar:
                yield bar.update
        else:
            yield _Lines(self.errors, unit).update


def error_console() -> Console:
    """The console on stderr."""
    return Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else WIDE)


def _json(document: dict[str, Any]) -> str:
    """JSON text; numbers that JSON does not have become null."""
    try:
        return json.dumps(document, indent=2, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(document), indent=2, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class _Bar:
    """A bar per stage, with the time left, that appears once the work has taken a while."""

    def __init__(self, console: Console, unit: str = "") -> None:
        rate = [_RateColumn(unit)] if unit else []
        self._bars = ProgressBar(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            *rate,
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._start = time.monotonic()
        self._tasks: dict[str, Any] = {}
        self._running = False

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._running:
            self._bars.stop()

    def update(self, stage: str, done: int, total: int) -> None:
        """See `tflnest.progress.Progress`."""
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=max(total, 1))
        self._bars.update(self._tasks[stage], completed=done, total=max(total, 1))
        if not self._running and time.monotonic() - self._start > PROGRESS_DELAY_S:
            self._running = True
            self._bars.start()


class _RateColumn(ProgressColumn):
    """How many units come in a second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        """See rich."""
        return Text(f"{task.speed or 0:,.0f} {self._unit}/s")


class _Lines:
    """A line per tenth of a stage."""

    def __init__(self, console: Console, unit: str = "") -> None:
        self._console = console
        self._unit = unit
        self._start = time.monotonic()
        self._shown: dict[tuple[str, int], int] = {}
        self._first: dict[str, int] = {}

    def update(self, stage: str, done: int, total: int) -> None:
        """See `tflnest.progress.Progress`."""
        first = self._first.setdefault(stage, done)  # what was done before is not part of the rate
        if time.monotonic() - self._start < PROGRESS_DELAY_S:
            return
        step = STEPS * done // max(total, 1)
        if step > self._shown.get((stage, total), -1):  # a total that grows begins anew
            self._shown[stage, total] = step
            share = f"{done / max(total, 1):.0%}"
            elapsed = time.monotonic() - self._start
            rate = f", {(done - first) / elapsed:,.0f} {self._unit}/s" if self._unit else ""
            self._console.print(f"{stage}: {done} of {total} ({share}{rate})", markup=False, soft_wrap=True)


def size(count: int) -> str:
    """Bytes for people: with thousands separators."""
    return f"{count:,} B"


def percent(share: float | None) -> str:
    """A share as a percentage; a dash where there is none."""
    return "-" if share is None else f"{100 * share:.2f} %"


#: Decorator: the seed of verbs that draw at random.
seed_option = click.option(
    "--seed",
    type=click.IntRange(min=0),
    metavar="N",
    default=0,
    show_default=True,
    help="For all that is drawn at random.",
)


def output_options(command: Command) -> Command:
    """Decorator: the options that every verb has."""
    options = (
        click.option(
            "--format",
            "output_format",
            type=click.Choice(["text", "json"]),
            default="text",
            show_default=True,
            help="json: one document on stdout, nothing else.",
        ),
        click.option("-q", "--quiet", is_flag=True, help="No progress and no notes."),
        click.option("--no-progress", is_flag=True, help="No progress on stderr."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def screen(output_format: str, quiet: bool, no_progress: bool) -> Screen:
    """The screen for the options of `output_options`."""
    return Screen(output_format, quiet, not no_progress)


def report_error(error: TflnestError, as_json: bool) -> ExitCode:
    """Show an error on stderr; returns the exit code."""
    if as_json:
        details = {name: value for name, value in vars(error).items() if name not in ("message", "hint")}
        content = {
            "type": type(error).__name__.lstrip("_"),
            "message": error.message,
            "hint": error.hint,
            "exit_code": int(error.exit_code),
            **details,
        }
        click.echo(_json({"schema_version": JSON_SCHEMA_VERSION, "error": content}), err=True)
        return error.exit_code
    console = error_console()
    for name, style, text in (("error", "bold red", error.message), ("hint", "bold", error.hint)):
        if text:
            line = Text.assemble((f"{name}:", style), " ", text)
            console.print(line, soft_wrap=not console.is_terminal)
    return error.exit_code


class LevelsType(_ParamType):
    """A chain of levels on the command line: `4,6,8`."""

    name = "levels"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Parse and check."""
        from tflnest.nesting import check_levels

        if isinstance(value, tuple):
            return value
        try:
            return check_levels([int(part) for part in value.split(",")])
        except ValueError:
            self.fail(f"{value!r} is no list of bit-widths; give for example 4,6,8", param, ctx)
        except TflnestError as error:
            self.fail("; ".join(filter(None, (error.message, error.hint))), param, ctx)


LEVELS = LevelsType()


class SizeType(_ParamType):
    """A number of bytes on the command line: `8192`, `64KiB`."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse and check."""
        from firmware_sim.board import parse_size

        try:
            return parse_size(value)
        except TflnestError as error:
            self.fail(str(error), param, ctx)


SIZE = SizeType()


class BoardType(_ParamType):
    """The name of a board profile, or the path of one; completes both."""

    name = "board"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Names that begin so, or files."""
        from firmware_sim.board import list_boards

        names = [CompletionItem(name) for name in list_boards() if name.startswith(incomplete)]
        return names or [CompletionItem(incomplete, type="file")]


BOARD = BoardType()


class RecipeType(_ParamType):
    """The name of a preset, or the path of a recipe; completes both."""

    name = "recipe"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Names that begin so, or files."""
        from converters.recipe import presets

        names = [CompletionItem(name) for name in presets() if name.startswith(incomplete)]
        return names or [CompletionItem(incomplete, type="file")]


RECIPE = RecipeType()


def stream_setup() -> None:
    """Never fail on a character that the terminal's encoding does not have, or on a stream that is closed."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
