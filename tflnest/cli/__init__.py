"""The command line. Thin: every verb is a public function of the library that returns an object."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from typing import Any

import click

from tflnest.cli import ui
from tflnest.errors import ExitCode, TflnestError
from tflnest.version import __version__

#: Verbs in the order in which people need them: module below this package and attribute.
VERBS = {
    "convert": "convert",
    "inspect": "inspection",
    "eval": "evaluation",
    "materialize": "materialization",
    "simulate": "simulation",
    "boards": "boards",
    "compare": "comparison",
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


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the console script; always leaves through `sys.exit`."""
    ui.stream_setup()
    words = sys.argv[1:] if arguments is None else arguments
    sys.exit(int(run(words)))


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code."""
    as_json = "--format=json" in arguments or ("--format" in arguments and "json" in arguments)
    try:
        result: Any = cli.main(arguments, prog_name="tflnest", standalone_mode=False)
        return result if isinstance(result, int) else ExitCode.OK
    except TflnestError as error:
        return ui.report_error(error, as_json)
    except click.UsageError as error:
        error.show()
        return ExitCode.USAGE
    except click.ClickException as error:
        error.show()
        return ExitCode.FAILED
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone, as in `tflnest ... | head`; keep the interpreter from complaining.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILED
    except MemoryError:
        return ui.report_error(
            TflnestError("not enough memory", "use fewer samples or a smaller model"), as_json
        )
    except Exception as error:
        if os.environ.get("TFLNEST_DEBUG"):
            traceback.print_exc()
        problem = TflnestError(
            f"internal error: {type(error).__name__}: {error}",
            "this is a bug in tflnest; run again with TFLNEST_DEBUG=1 and report what it prints",
        )
        return ui.report_error(problem, as_json)
