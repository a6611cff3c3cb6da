"""What a pruned model becomes outside: a small file, a faster model."""
