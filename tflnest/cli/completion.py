"""`tflnest completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from tflnest.errors import UsageError


@click.command("completion", short_help="Print the completion script of a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the script that completes verbs, options and boards in a SHELL.

    \b
    Examples (bash, zsh, fish):
      tflnest completion bash > ~/.local/share/bash-completion/completions/tflnest
      tflnest completion zsh > ~/.tflnest.zsh; echo '. ~/.tflnest.zsh' >> ~/.zshrc
      tflnest completion fish > ~/.config/fish/completions/tflnest.fish
    """
    from tflnest.cli.application import cli

    completer = get_completion_class(shell)
    if completer is None:
        raise UsageError(f"no completion for {shell}")
    click.echo(completer(cli, {}, "tflnest", "_TFLNEST_COMPLETE").source())
