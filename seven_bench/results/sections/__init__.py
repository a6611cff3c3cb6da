"""The sections of the page, in their order. One is a file of this folder, and a name here."""

from seven_bench.results.sections import (
    across,
    comparison,
    curve,
    damaged,
    environment,
    items,
    latency,
    layers,
    overlap,
    plain,
    ranks,
    sentinels,
    table,
    tradeoff,
    training,
    unfinished,
    variance,
    words,
)

SECTIONS = (
    *(
        curve.SECTION,
        table.SECTION,
        tradeoff.SECTION,
        latency.SECTION,
        across.SECTION,
        comparison.SECTION,
    ),
    *(items.SECTION, training.SECTION, layers.SECTION, overlap.SECTION, plain.SECTION),
    *(ranks.SECTION, variance.SECTION, sentinels.SECTION, words.SECTION),
    *(environment.SECTION, unfinished.SECTION, damaged.SECTION),
)
