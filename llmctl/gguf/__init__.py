"""Reads GGUF files: ``header.read_file``, then ``shape.shape`` and ``shape.weights`` of the header."""
