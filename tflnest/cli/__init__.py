"""The command line. Thin: every verb is a public function of the library that returns an object."""

from __future__ import annotations

import sys


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the console script; always leaves through `sys.exit`."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code, an `ExitCode`."""
    try:
        # Loading takes a moment, in which the user may press Ctrl-C as well as later.
        from tflnest.cli import application
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted\n")
        return 130
    return int(application.run(arguments))
