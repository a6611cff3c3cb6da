"""The settings of a run: their checks, what goes with what, identity, building."""
