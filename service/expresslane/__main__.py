"""`python -m expresslane`: the command line."""

import sys

from expresslane.cli import main

if __name__ == "__main__":
    sys.exit(main())
