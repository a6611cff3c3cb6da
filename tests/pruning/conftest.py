"""These tests run on one thread."""

from tests.one_thread import one_thread  # noqa: F401
