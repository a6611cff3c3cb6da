"""A benchmark suite for pruning Transformers, built around SEVEN (arXiv 2403.12688)."""

__version__ = "0.1.0"
