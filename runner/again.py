"""`python -m runner.again FILE` runs stored settings as they are, with nothing left to compose: see `program`."""

import sys
from pathlib import Path

from runner.cli import again

if __name__ == "__main__":
    again(Path(sys.argv[1]))
