"""What pruning costs and what it buys, each as a ratio to a plain way in the same process.

    python -m tests.benchmarks                 # everything: some ten minutes on two cores
    python -m tests.benchmarks step selection  # some of it
    python -m tests.benchmarks gpu             # on a CUDA device; `make gpu` checks first
    python -m tests.benchmarks page            # puts what was measured into docs/pages/cost.md

Writes `outputs/bench/<group>.json` and `outputs/bench/table.md`. Never run beside other work.
"""
