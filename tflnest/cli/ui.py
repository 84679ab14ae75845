"""What the command line shows: results on stdout, progress and errors on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import click
from rich import box
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar
from rich.table import Table

from tflnest.errors import ExitCode, TflnestError
from tflnest.progress import Progress, silent
from tflnest.version import JSON_SCHEMA_VERSION

#: Work shorter than this shows no progress.
PROGRESS_DELAY_S = 2.0

#: Columns of a table that goes to a file or a pipe.
WIDE = 200

#: Share of the work between two progress lines where stderr is no terminal.
LINE_STEP = 0.1

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
        self.show_progress = show_progress and not quiet
        # Where nobody looks at a terminal, tables take the room they need.
        self.console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else WIDE)
        self.errors = Console(stderr=True, highlight=False, soft_wrap=True)

    @property
    def is_json(self) -> bool:
        """Whether stdout takes one JSON document and nothing else."""
        return self.output_format == "json"

    def line(self, text: str = "") -> None:
        """A line of a text result."""
        if not self.is_json:
            self.console.print(text, markup=False)

    def note(self, text: str) -> None:
        """Something the user should know, on stderr."""
        if not self.quiet:
            self.errors.print(f"note: {text}", markup=False)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Any]], left: Sequence[str] = ()) -> None:
        """A table of a text result; columns are right-aligned but for those in `left`."""
        if self.is_json:
            return
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for column in columns:
            table.add_column(
                column,
                justify="left" if column in left else "right",
                no_wrap=column not in left,
                overflow="fold",
            )
        for row in rows:
            table.add_row(*(str(cell) for cell in row))
        self.console.print(table, soft_wrap=False)

    def json(self, document: dict[str, Any]) -> None:
        """The JSON result; does nothing in text mode."""
        if self.is_json:
            click.echo(json.dumps({"schema_version": JSON_SCHEMA_VERSION, **document}, indent=2))

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """A progress callback: a bar on a terminal, lines elsewhere, nothing for short work."""
        if not self.show_progress:
            yield silent
        elif self.errors.is_terminal:
            with _Bar(self.errors) as bar:
                yield bar.update
        else:
            yield _Lines(self.errors).update


class _Bar:
    """A bar per stage, with the time left, that appears once the work has taken a while."""

    def __init__(self, console: Console) -> None:
        self._bars = ProgressBar(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
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


class _Lines:
    """A line per tenth of a stage."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._start = time.monotonic()
        self._next: dict[str, float] = {}

    def update(self, stage: str, done: int, total: int) -> None:
        """See `tflnest.progress.Progress`."""
        if time.monotonic() - self._start < PROGRESS_DELAY_S:
            return
        share = done / max(total, 1)
        if share >= self._next.get(stage, 0.0):
            self._next[stage] = share + LINE_STEP
            self._console.print(f"{stage}: {done} of {total} ({share:.0%})", markup=False)


def size(count: int) -> str:
    """Bytes for people: with thousands separators."""
    return f"{count:,} B"


def percent(share: float | None) -> str:
    """A share as a percentage; a dash where there is none."""
    return "-" if share is None else f"{100 * share:.2f} %"


def output_options(command: Command) -> Command:
    """Decorator: the options that every verb has."""
    options = (
        click.option(
            "--format",
            "output_format",
            type=click.Choice(["text", "json"]),
            default="text",
            show_default=True,
            help="json prints one document with a schema version on stdout, and nothing else.",
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
        content = {"message": error.message, "hint": error.hint, "exit_code": int(error.exit_code)}
        click.echo(json.dumps({"schema_version": JSON_SCHEMA_VERSION, "error": content}, indent=2), err=True)
    else:
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        console.print("error: ", style="bold red", end="")
        console.print(error.message, markup=False)
        if error.hint:
            console.print("hint: ", style="bold", end="")
            console.print(error.hint, markup=False)
    return error.exit_code


class LevelsType(click.ParamType):
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
            self.fail(str(error), param, ctx)


LEVELS = LevelsType()


def stream_setup() -> None:
    """Never fail on a character that the terminal's encoding does not have."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")
