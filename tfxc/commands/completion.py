"""Print the shell's completion of tfxc: commands, options, files.

    tfxc completion bash > ~/.local/share/bash-completion/completions/tfxc
    tfxc completion zsh > ~/.zfunc/_tfxc
    tfxc completion fish > ~/.config/fish/completions/tfxc.fish

zsh looks into the folders of its `fpath`: add `fpath+=~/.zfunc` before `compinit` in ~/.zshrc.
"""

import argparse
import dataclasses
from collections.abc import Sequence
from typing import Annotated, Literal

from tfxc.core.bounds import Option
from tfxc.core.command_options import parse, parser_of
from tfxc.core.errors import missing_package

_Shell = Literal["bash", "zsh", "fish"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Options of ``tfxc completion``.

    Attributes:
        shell: shell to complete for.
    """

    shell: Annotated[_Shell, Option(positional=True)]


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the script."""
    options = parse(Options, argv, "completion", __doc__)
    with missing_package("completion"):
        import shtab

    print(shtab.complete(whole_parser(), options.shell))
    return 0


def whole_parser() -> argparse.ArgumentParser:
    """Returns one parser of all commands, for programs that read parsers."""
    from tfxc.__main__ import COMMANDS

    whole = argparse.ArgumentParser(prog="tfxc")
    whole.add_argument("--version", action="store_true", help="print the version")
    commands = whole.add_subparsers(dest="command")
    for name, help_text in COMMANDS.items():
        parser = command_parser(name)
        commands.add_parser(name, help=help_text, parents=[parser], add_help=False)
    return whole


def command_parser(name: str) -> argparse.ArgumentParser:
    """Returns the parser of a command."""
    from tfxc.__main__ import module_of

    module = module_of(name)
    return parser_of(module.Options, name, module.__doc__)
