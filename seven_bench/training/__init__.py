"""Training under masks, on PyTorch-Lightning."""
