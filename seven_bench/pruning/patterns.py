"""Patterns: the granularity of what is removed."""

from __future__ import annotations

PATTERNS = ("unstructured",)
