"""What a pruned model weighs and costs."""
