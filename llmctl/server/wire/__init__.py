"""The shapes of requests and answers, one file for each side of each API. No network, no model."""
