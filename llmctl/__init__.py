"""llmctl: from a bare machine to a private language model that is right for it."""

__version__ = "0.1.0"
