"""What holds for every method, to be held against a method of one's own:
`python -m seven_bench.testing my_method`.
"""
