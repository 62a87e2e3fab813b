"""What llama.cpp is told when it loads a model, and what it does of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import llama_cpp
import psutil
import pytest

from llmctl.engine.llama_cpp.loading import EXPERTS, KV_TYPES, adjusted
from llmctl.engine.llama_cpp.start import start
from llmctl.engine.load_share import LoadShare
from llmctl.engine.worker_process import Worker
from llmctl.errors import ResourceError
from llmctl.struct import asdict
from llmctl.types.plan import Configuration
from tests.fakes.fits import fit_for
from tests.fakes.gguf_file import Fill, llama_metadata, model_shape, write
from tests.fakes.real_shapes import models
from tests.fakes.real_tensors import tensors

CHILD = """
import ctypes, json, sys
import llama_cpp
from llmctl.engine.llama_cpp.loading import load
file, settings = json.loads(sys.argv[1])
log = []
keep = llama_cpp.llama_log_callback(lambda level, text, data: log.append(text.decode("utf-8", "replace")))
llama_cpp.llama_log_set(keep, ctypes.c_void_p(0))
load({"file": file, **settings})
print("".join(log))
"""


def log_of(file: Path, settings: Configuration) -> str:
    argv = [sys.executable, "-c", CHILD, json.dumps([str(file), asdict(settings)])]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """OLMoE's first two layers, with four experts and a small vocabulary."""
    metadata = {**models()["olmoe"], **llama_metadata(model_shape("tiny"))}
    figures = {key: value for key, value in metadata.items() if not key.startswith("llama.")}
    figures |= {"general.architecture": "olmoe", "olmoe.block_count": 2, "olmoe.vocab_size": 1024}
    figures |= {"olmoe.expert_count": 4, "olmoe.expert_used_count": 2}
    specs = [
        one for one in tensors("olmoe", "Q4_0") if not one.name.startswith("blk.") or one.name[4:6] in ("0.", "1.")
    ]
    fewer = {50304: 1024, 64: 4}
    specs = [one._replace(shape=tuple(fewer.get(size, size) for size in one.shape)) for one in specs]
    return write(tmp_path_factory.mktemp("mixture") / "x.gguf", figures, specs, fill=Fill.SPARSE)


def test_experts_stay_on_the_cpu_of_as_many_layers_as_are_told(mixture: Path) -> None:
    mark = "buffer type overridden to CPU"
    log = log_of(mixture, Configuration(256, cpu_expert_layers=1))
    moved = [line for line in log.splitlines() if mark in line]
    assert len(moved) == 3 and all("tensor blk.0.ffn_" in line and "_exps" in line for line in moved)
    assert mark not in log_of(mixture, Configuration(256))


def test_repacking_is_turned_off(mixture: Path) -> None:
    assert "CPU_REPACK model buffer size" in log_of(mixture, Configuration(256))
    assert "CPU_REPACK model buffer size" not in log_of(mixture, Configuration(256, repack=False))


@pytest.mark.parametrize(
    ("counts", "mode", "main", "split"),
    [
        ((), llama_cpp.LLAMA_SPLIT_MODE_LAYER, 0, None),
        ((0, 33), llama_cpp.LLAMA_SPLIT_MODE_NONE, 1, None),
        ((20, 13), llama_cpp.LLAMA_SPLIT_MODE_LAYER, 0, [20.0, 13.0]),
        ((20, 0, 13), llama_cpp.LLAMA_SPLIT_MODE_LAYER, 0, [20.0, 0.0, 13.0]),
    ],
)
def test_layers_go_where_they_were_planned(counts: tuple[int, ...], mode: int, main: int, split: Any) -> None:
    params: Any = llama_cpp.llama_model_default_params()
    settings = asdict(Configuration(256, gpu_layers=33, layers_per_device=counts))
    with adjusted(params, settings):
        told = [params.tensor_split[at] for at in range(len(counts))] if params.tensor_split else None
        assert (params.n_gpu_layers, params.split_mode, params.main_gpu, told) == (33, mode, main, split)


def test_types_are_ggmls_own() -> None:
    assert {llama_cpp.GGML_TYPE_F16, llama_cpp.GGML_TYPE_Q8_0, llama_cpp.GGML_TYPE_Q4_0} == set(KV_TYPES.values())
    assert EXPERTS.format(layer=7).startswith(r"blk\.7\.")


TOLD = """
import json, sys
from llmctl.engine.llama_cpp import loading
loading.TELL_EVERY_S = float(sys.argv[2])
shares = []
file, settings = json.loads(sys.argv[1])
loading.load({"file": file, **settings}, shares.append)
print(json.dumps(shares))
"""


@pytest.mark.parametrize("every_s", [0.0, 60.0])
def test_what_is_loaded_is_told_now_and_then(mixture: Path, every_s: float) -> None:
    argv = [sys.executable, "-c", TOLD, json.dumps([str(mixture), asdict(Configuration(256))]), str(every_s)]
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=60, check=True)
    shares = json.loads(done.stdout)
    assert shares == sorted(shares)
    assert (len(shares) > 5 and shares[0] == 0 and shares[-1] == 1) if every_s == 0 else not shares


# The parent's side


def slow_engine(place: Path, said: str) -> Path:
    """A program that takes the job, says ``said``, and waits."""
    program = place / "engine"
    program.write_text(f"#!/bin/sh\nread job\n{said}\nexec sleep 60\n")
    program.chmod(0o700)
    return program


READY = """echo '{"progress": 0.5}'; sleep 0.7; echo '{"progress": 0.75}'; echo '{"ready": {"port": 1}}'"""


def test_the_parent_hears_how_much_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmctl.engine.worker_process.sys.executable", str(slow_engine(tmp_path, READY)))
    worker, shares = Worker(), list[float]()
    job = {"file": str(tmp_path / "engine"), "model": "tiny"}
    try:
        assert worker.load(job, timeout_s=30, tell=shares.append) == {"port": 1}
    finally:
        worker.close()
    assert shares[0] == 0.75 and shares[-1] == 0.875, "the file counts for half, its tensors for the other"
    assert shares == sorted(shares) and len(shares) >= 3, "it is looked, too, when nothing is said"


def test_ctrl_c_ends_a_load_that_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmctl.engine.worker_process.sys.executable", str(slow_engine(tmp_path, "")))
    file = tmp_path / "model.gguf"
    file.touch()
    worker = Worker()
    threading.Timer(0.3, lambda: signal.raise_signal(signal.SIGINT)).start()
    begun_s = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        start(fit_for(file), worker=worker)
    assert time.monotonic() - begun_s < 10, "it takes a tenth of a second on a quiet machine"
    assert not psutil.pid_exists(worker.pid)


@pytest.mark.parametrize(
    ("mapped", "placed", "shares"),
    [
        ([100, 100, 300, 500], [0, 0, 0, 0], [0, 0.25, 0.5]),
        ([100, 500, 500, 90], [0, 0, 0.5, 1], [0.5, 0.75, 1]),
        ([100, 100, 100, 100], [0, 0.1, 0, 0.2], [0.55, 0.55, 0.6]),
    ],
)
def test_reading_and_placing_count_for_half_each(
    tmp_path: Path, mapped: list[int], placed: list[float], shares: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(bytes(400))
    seen = iter(mapped)
    monkeypatch.setattr(LoadShare, "_mapped_bytes", lambda _: next(seen))
    share = LoadShare(os.getpid(), file)
    assert [share.now(done) for done in placed[1:]] == pytest.approx(shares)
    monkeypatch.setattr(LoadShare, "_mapped_bytes", lambda _: None)
    assert LoadShare(os.getpid(), file).now(0.3) == 0.3, "where the system tells nothing"


def test_no_port_is_a_want_of_the_machine_and_no_failure_of_the_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = """echo '{"no_port": "Address already in use"}'"""
    monkeypatch.setattr("llmctl.engine.worker_process.sys.executable", str(slow_engine(tmp_path, said)))
    file = tmp_path / "model.gguf"
    file.touch()
    with pytest.raises(ResourceError, match=r"no port on 127\.0\.0\.1 to answer at: Address already in use"):
        start(fit_for(file), worker=Worker())
