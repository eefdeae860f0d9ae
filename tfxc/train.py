"""``python -m tfxc.train --config ...`` is ``tfxc train --config ...``."""

import sys

from tfxc.__main__ import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
