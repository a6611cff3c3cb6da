"""What only a CUDA device can show. `make gpu` runs it, then measures: below twenty minutes.

python -m tests.gpu           # checks, then `python -m tests.benchmarks gpu`
python -m pytest tests/gpu    # the checks alone; skipped where there is no device
"""
