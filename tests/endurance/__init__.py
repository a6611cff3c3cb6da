"""What takes too long for every day: `python -m tests.endurance` (or `make endurance`)."""
