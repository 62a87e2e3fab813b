"""``python -m llmctl`` is ``llmctl``."""

import sys

from llmctl.cli import main

if __name__ == "__main__":
    sys.exit(main())
