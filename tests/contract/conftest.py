"""Commands of these tests run on a machine whose kernels have been measured: once a session, not once a test."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.fakes.command import argv


@pytest.fixture(scope="session")
def measured_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = tmp_path_factory.mktemp("cache")
    subprocess.run(
        argv("doctor"), capture_output=True, timeout=60, check=True, env={**os.environ, "XDG_CACHE_HOME": str(cache)}
    )
    return cache / "llmctl"


@pytest.fixture(autouse=True)
def measured(home: Path, measured_cache: Path) -> None:
    shutil.copytree(measured_cache, home / "cache" / "llmctl")
