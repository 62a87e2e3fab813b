"""The store's hub, with one model on it."""

from tests.store.conftest import add, hub, model_file, source, stored  # noqa: F401  # fixtures
