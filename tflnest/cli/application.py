"""The group of verbs, and what every error becomes."""

from __future__ import annotations

import difflib
import importlib
import itertools
import os
import sys
import traceback
from typing import Any

import click

from tflnest.cli import ui
from tflnest.errors import ExitCode, StoppedError, TflnestError, UsageError
from tflnest.version import __version__

#: Verbs in the order in which people need them: module below this package and attribute.
VERBS = {
    "convert": "convert",
    "inspect": "inspection",
    "search": "search",
    "train": "training",
    "eval": "evaluation",
    "materialize": "materialization",
    "export": "exporting",
    "simulate": "simulation",
    "boards": "boards",
    "compare": "comparison",
    "firmware": "firmware",
    "size": "sizes",
    "flash": "flashing",
    "emulate": "emulation",
    "ports": "ports",
    "device": "device",
    "info": "information",
    "push": "pushing",
    "switch": "switching",
    "page-out": "paging",
    "run": "inference",
    "verify": "verification",
    "monitor": "monitoring",
    "completion": "completion",
}

EXIT_CODES = "0 ok, 1 failed, 2 usage, 3 port or device, 4 verification, 5 does not fit, 130 interrupted"


class _Verbs(click.Group):
    """Loads a verb when it is used, so that `--help` and completion are quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"tflnest.cli.{VERBS[cmd_name]}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            close = difflib.get_close_matches(args[0], VERBS, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise UsageError(f"there is no verb {args[0]!r}", f"{hint}verbs are {', '.join(VERBS)}")
        return super().resolve_command(ctx, args)


@click.group(
    cls=_Verbs, epilog=f"Exit codes: {EXIT_CODES}.", context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, "-V", "--version", prog_name="tflnest")
def cli() -> None:
    """One .tflite file that holds a model at several integer precisions.

    Convert a model, see what accuracy each level keeps and whether it fits a board, and page the lower bits
    in and out.

    \b
    Example:
      tflnest convert model.tflite -o nested.tflite --levels 4,6,8
      tflnest inspect nested.tflite --board stm32vldiscovery
    """


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code."""
    ui.stream_setup()
    as_json = _wants_json(arguments)
    try:
        result: Any = cli.main(arguments, prog_name="tflnest", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else ExitCode.OK
    except SystemExit as error:  # click and rich, where the reader of our output has gone; and completion
        return error.code if isinstance(error.code, int) else ExitCode.FAILED
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return ExitCode.USAGE
    except (TflnestError, click.ClickException) as error:
        return ui.report_error(_own(error), as_json)
    except (KeyboardInterrupt, click.Abort):
        return ui.report_error(StoppedError("interrupted"), as_json)
    except BrokenPipeError:
        # The reader of our output has gone, as in `tflnest ... | head`; keep the interpreter from complaining.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILED
    except OSError as error:  # of the files that we read and write, files.py speaks: these are the streams
        return ui.report_error(TflnestError(f"cannot write the result: {error.strerror or error}"), as_json)
    except MemoryError:
        problem = TflnestError("not enough memory", "use fewer samples or a smaller model")
        return ui.report_error(problem, as_json)
    except Exception as error:
        if os.environ.get("TFLNEST_DEBUG"):
            traceback.print_exc()
        problem = TflnestError(
            f"internal error: {type(error).__name__}: {error}",
            "this is a bug in tflnest; run again with TFLNEST_DEBUG=1 and report what it prints",
        )
        return ui.report_error(problem, as_json)


def _wants_json(arguments: list[str]) -> bool:
    """Whether errors are to be JSON: also where the command line cannot be parsed."""
    return "--format=json" in arguments or ("--format", "json") in itertools.pairwise(arguments)


def _own(error: TflnestError | click.ClickException) -> TflnestError:
    """An error of the parser as one of ours."""
    if isinstance(error, TflnestError):
        return error
    message = error.format_message().rstrip(".")
    message = message[:1].lower() + message[1:]
    if not isinstance(error, click.UsageError):
        return TflnestError(message)
    path = error.ctx.command_path if error.ctx is not None else "tflnest"
    return UsageError(message, f"see {path} --help")
