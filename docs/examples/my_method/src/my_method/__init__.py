"""A pruning method for seven_bench."""
