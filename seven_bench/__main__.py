"""`python -m seven_bench`."""

import sys

from seven_bench.commands import main

if __name__ == "__main__":
    sys.exit(main())
