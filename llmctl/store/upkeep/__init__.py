"""What keeps the store in order: remove, prune, verify."""
