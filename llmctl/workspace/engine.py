"""The engine in one line, for ``llmctl --version``."""

from __future__ import annotations


def summary() -> str:
    """ "llama-cpp-python 0.3.36 (ggml 0.25.3 d25f87b; CPU)"."""
    from llmctl.engine.devices import engine_summary

    return engine_summary()
