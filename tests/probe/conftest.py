"""What several tests of NVIDIA's GPUs need."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.fakes.nvml.computer import COMPILER, DRIVER, Computer, build, put


@pytest.fixture
def computer(tmp_path: Path) -> Callable[..., Computer]:
    """A computer with the driver and these files; children get this environment beside the usual one."""

    def make(files: Mapping[str, str] | None = None, /, **environ: str) -> Computer:
        put(tmp_path, {**DRIVER, **(files or {})})
        return Computer(root=tmp_path, environ={"PATH": os.environ["PATH"], **environ}, system="linux")

    return make


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The folder of the compiled stand-in for NVIDIA's library."""
    if COMPILER is None:
        pytest.skip("no C compiler")
    built: dict[bool, Path] = {}

    def folder(*, old: bool = False) -> Path:
        if old not in built:
            built[old] = tmp_path_factory.mktemp("nvml")
            build(built[old], old=old)
        return built[old]

    return folder


@pytest.fixture
def fake(computer: Callable[..., Computer], library: Callable[..., Path]) -> Callable[..., Computer]:
    """A computer with the driver and the stand-in, behaving in one of its ways (see nvml.c)."""

    def make(behaviour: str, files: Mapping[str, str] | None = None, /, **environ: str) -> Computer:
        folder = library(old=behaviour == "old")
        return computer(files, LD_LIBRARY_PATH=str(folder), FAKE_NVML=behaviour, **environ)

    return make
