"""The tables that ship, and a mistake in one."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from llmctl import catalogue, paths
from llmctl.catalogue.speed_constants import SpeedConstants
from llmctl.errors import ConfigError
from llmctl.gguf.quant import WEIGHT_TYPE_BY_NAME

TABLES = ("tasks", "benchmarks", "quants", "speed", "backends", "processors")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in TABLES:
        shutil.copy(paths.profiles_dir() / f"{name}.toml", tmp_path)
    return tmp_path


def test_the_tables_that_ship(folder: Path) -> None:
    knowledge = catalogue.load_knowledge(folder)
    assert list(knowledge.tasks) == [
        *("chat", "code", "agent", "reasoning", "summarise", "translate", "extract", "vision", "embed", "rerank")
    ]
    assert catalogue.task_names(folder) == list(knowledge.tasks)
    assert all((task.min_tok_s > 0) == task.writes and task.context >= 2048 for task in knowledge.tasks.values())
    areas = {benchmark.area for benchmark in knowledge.quality.benchmarks.values()} | {
        "reranking"
    }  # which nobody published
    assert all(set(task.evidence) <= areas for task in knowledge.tasks.values())
    assert [task.name for task in knowledge.tasks.values() if task.think] == ["reasoning"]


def test_finer_quantization_never_diverges_more_within_a_kind(folder: Path) -> None:
    quants = catalogue.load_knowledge(folder).quants.quants
    for kind in (r"Q\d(_K|_0)(_M|_L)?", "UD-.*", r"IQ\d_(M|XXS|XS)"):
        named = [quant for name, quant in quants.items() if re.fullmatch(kind, name)]
        ladder = sorted(named, key=lambda quant: quant.bits)
        assert [quant.divergence for quant in ladder] == sorted((quant.divergence for quant in ladder), reverse=True), (
            kind
        )


def test_the_catalogues_labels_and_benchmarks_are_known(folder: Path) -> None:
    knowledge = catalogue.load_knowledge(folder)
    models = catalogue.load(paths.profiles_dir() / "models").models
    labels = {artifact.quant for model in models for artifact in model.artifacts}
    assert labels <= knowledge.quants.quants.keys() | knowledge.quants.native
    listed = knowledge.quality.benchmarks.keys()
    judged = [model for model in models if listed & {result.benchmark for result in model.evidence}]
    assert len(judged) >= 55  # the others have results that make no index: of embedding, of code, of a chat arena
    assert listed <= {result.benchmark for model in models for result in model.evidence}


def test_speed_constants_make_sense(folder: Path) -> None:
    speed: SpeedConstants = catalogue.load_knowledge(folder).speed
    assert speed.cores[-1].feature == ""
    assert set(speed.ranges) == {"calibrated", "completed", "together", "cpu", "family", "device", "unknown", "drift"}
    assert all(factors.low < 1 < factors.high for factors in speed.ranges.values())
    devices = speed.devices
    assert set(devices.backends) == {"cuda", "metal", "rocm", "vulkan", "sycl"}
    assert all(0 < backend.share <= 1 and 0 < backend.layer_s < 1e-3 for backend in devices.backends.values())
    assert devices.types.keys() <= WEIGHT_TYPE_BY_NAME.keys()
    assert all(0 < share <= 1 for share in (*devices.types.values(), devices.expert_share, devices.peak_share))
    assert speed.likeness.keys() <= WEIGHT_TYPE_BY_NAME.keys()
    assert {likeness.measured for likeness in speed.likeness.values()} <= WEIGHT_TYPE_BY_NAME.keys()


def change(old: str, new: str) -> Callable[[str], str]:
    def changed(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return changed


@pytest.mark.parametrize(
    ("table", "damage", "words"),
    [
        ("tasks", change("min_tok_s = 8", 'min_tok_s = "8"'), "chat.min_tok_s must be a number"),
        ("tasks", change("context = 8192", "contexts = 8192"), "chat.context must be given"),
        ("benchmarks", change("[index]", "[indices]"), "index must be a table"),
        ("quants", change("bits = 8.5", "bits = 8.5\nbites = 1"), "quant.Q8_0.bites must be left out"),
        ("speed", change("[cpu]", "[cpu"), "is not valid TOML"),
        ("speed", change("[range.unknown]", "[unknown]"), "unknown must be left out"),
        (
            "backends",
            change("[backend.sycl]\n", "[backend.sycl]\nshares = 1\n"),
            "backend.sycl.shares must be left out",
        ),
        ("backends", change("\nexpert_share", "\nexperts_share"), "expert_share must be a number"),
    ],
)
def test_a_mistake_names_file_and_field(folder: Path, table: str, damage: Callable[[str], str], words: str) -> None:
    file = folder / f"{table}.toml"
    file.write_text(damage(file.read_text("utf-8")), "utf-8")
    with pytest.raises(ConfigError) as caught:
        catalogue.load_knowledge(folder)
    assert str(file) in caught.value.message
    assert words in caught.value.message


def test_a_missing_table_is_told(folder: Path) -> None:
    (folder / "speed.toml").unlink()
    with pytest.raises(ConfigError, match=r"speed\.toml can't be read"):
        catalogue.load_knowledge(folder)
