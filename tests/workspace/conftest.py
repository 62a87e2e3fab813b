"""The command line's hub, and what it holds."""

from tests.cli.conftest import gguf, hold, hub, kernels_known  # noqa: F401  # fixtures
