"""Data of the tasks, as Lightning data modules."""
