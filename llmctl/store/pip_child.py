"""``python -m llmctl.store.pip_child ARGUMENTS``: pip, which ends with the process that started it, however that ends.

Its parent holds the other end of its standard input, and the system closes that end even after a SIGKILL.
"""

from __future__ import annotations

import os
import runpy
import sys
import threading

ORPHANED = 1  # exit code; there is no parent to read it


def main() -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.argv[0] = "pip"
    runpy.run_module("pip", run_name="__main__", alter_sys=True)


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)  # nothing is ever written there
    os._exit(ORPHANED)


if __name__ == "__main__":
    main()
