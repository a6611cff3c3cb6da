"""`python -m seven_bench`."""

from seven_bench.cli import main

if __name__ == "__main__":
    main()
