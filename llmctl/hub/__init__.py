"""The model hub: its files, listings, headers by ranges, tokens, and whether it can be reached."""
