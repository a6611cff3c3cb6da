"""The life of a run on disk: its folder, its record, its tensors."""
