"""What controls there are, and at which timings each can be had. Imports no torch.

`seven_bench.pruning.controls` says what each does. Of methods in rounds the last one alone is
changed, where it would be rewound to the start.
"""

from __future__ import annotations

CONTROLS: dict[str, tuple[str, ...]] = {
    "none": ("none", "before", "during", "rounds", "after"),
    "shuffle": ("before",),
    "reinit": ("before", "rounds"),
    "permute_layers": ("before", "rounds"),
    "invert": ("before",),
    "corrupt_labels": ("before",),
    "quota_swap": ("before",),
    "quota_swap_reverse": ("before",),
}
