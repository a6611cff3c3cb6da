"""Imports of large libraries, without the garbage collector.

torch, Lightning and transformers make some two million objects, all for good. The collector goes
through them again and again while they are made, and once more as the process ends: 1.8 of 4.5 s
of processor time. Uses the standard library alone.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def for_good(module: str) -> Iterator[None]:
    """Within, `module` is imported; the collector rests, and never looks at what there is then.

    Does nothing where the module is imported already: what runs have left since is not for good.
    """
    if module in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
