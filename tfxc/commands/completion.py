"""Print the shell's completion of tfxc: commands, options, files.

    tfxc completion bash > ~/.local/share/bash-completion/completions/tfxc
    tfxc completion zsh > ~/.zfunc/_tfxc
    tfxc completion fish > ~/.config/fish/completions/tfxc.fish

zsh looks into folders of its `fpath`: add `fpath+=~/.zfunc` in front of `compinit` in ~/.zshrc.
"""

import argparse
from collections.abc import Sequence

from tfxc.core import cli
from tfxc.core.errors import missing_package

SHELLS = ("bash", "zsh", "fish")


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the script."""
    options = _parser().parse_args(argv)
    with missing_package("completion"):
        import shtab

    print(shtab.complete(whole_parser(), options.shell))
    return 0


def whole_parser() -> argparse.ArgumentParser:
    """Returns one parser of all commands, for programs that read parsers."""
    from tfxc.__main__ import COMMANDS, module_of

    whole = argparse.ArgumentParser(prog="tfxc")
    whole.add_argument("--version", action="store_true", help="print the version")
    commands = whole.add_subparsers(dest="command")
    for name, help_text in COMMANDS.items():
        parser = module_of(name)._parser()
        commands.add_parser(name, help=help_text, parents=[parser], add_help=False)
    return whole


def _parser() -> argparse.ArgumentParser:
    options = cli.parser("completion", __doc__)
    options.add_argument("shell", choices=SHELLS, help="shell to complete for")
    return options
