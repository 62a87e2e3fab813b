"""Runs llama.cpp in a child process that answers on loopback. A crash there ends the child, never the caller."""

from llmctl.engine.builds import put_on_path

put_on_path()
