"""``python -m tfxc.train --config ...`` is ``tfxc train --config ...``."""

from tfxc.commands.train import main
from tfxc.core import cli

if __name__ == "__main__":
    cli.run(main)
