"""Which address answers, and the answering itself."""
