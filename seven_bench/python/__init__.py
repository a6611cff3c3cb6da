"""The suite's methods for a program of one's own: `from seven_bench import prune, keep_pruned`."""
