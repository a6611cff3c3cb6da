"""Tests of seven_bench.export."""
