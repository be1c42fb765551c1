"""`python -m magnet`: the `magnet` command."""

import sys

from magnet.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
