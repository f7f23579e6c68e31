"""`python -m grains_lens.cli`, where the command itself is not installed."""

import sys

from . import main

if __name__ == "__main__":
    sys.exit(main())
