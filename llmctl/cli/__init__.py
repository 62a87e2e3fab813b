"""The command line: one file per verb, options and printing only."""

from __future__ import annotations

from collections.abc import Sequence

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs ``llmctl`` with ``argv`` (default: the process's) and returns the exit code of the contract."""
    try:
        from llmctl.cli.app import main as run

        return run(argv)
    except KeyboardInterrupt:  # while modules are still imported
        return INTERRUPTED
