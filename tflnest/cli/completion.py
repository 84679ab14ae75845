"""`tflnest completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from tflnest.errors import UsageError


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script for a SHELL.

    \b
    Example (bash):
      tflnest completion bash > ~/.tflnest-complete.bash
      echo '. ~/.tflnest-complete.bash' >> ~/.bashrc
    """
    from tflnest.cli import cli

    completer = get_completion_class(shell)
    if completer is None:
        raise UsageError(f"no completion for {shell}")
    click.echo(completer(cli, {}, "tflnest", "_TFLNEST_COMPLETE").source())
