"""Builds of llama-cpp-python: which would fit this machine, installing one beside the one in use, and switching."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from llmctl.engine.builds import PythonBuild
from llmctl.errors import EngineError, NotFoundError, UsageError
from llmctl.types.engine_name import INSTALLED, BuildName
from llmctl.types.listener import Listener
from llmctl.types.machine import EngineInfo, Machine

if TYPE_CHECKING:
    from llmctl.engine.install import Installed, Remedy
    from llmctl.settings import Settings

TRIAL_S = 300.0
MINUTES = "5 to 15 minutes on most machines"
LONGER = frozenset({BuildName.CUDA, BuildName.ROCM})  # to compile, several times as long


class BuildOffer(Struct, frozen=True):
    """A build that does what the one in use can't, which ``lack`` says. ``command`` is what pip is told, ``needs`` what
    has to be on the machine; ``why_compiled`` is None where there is a wheel."""

    name: BuildName
    lack: str
    command: str
    needs: str | None
    why_compiled: str | None

    @property
    def install(self) -> str:
        return f"llmctl engine install {self.name}"


class ListedBuild(Struct, frozen=True):
    """``name`` is that of ``engine use``; ``folder`` None for the one of this Python."""

    name: str
    about: EngineInfo
    folder: Path | None
    is_chosen: bool


def offer(machine: Machine, engines: Sequence[EngineInfo]) -> BuildOffer | None:
    """The build for this processor where no engine can be used, else the one for the machine's main card; None where
    that is used already, or no build can use it."""
    from llmctl.engine.devices import startable
    from llmctl.engine.install import build_for, driver_too_old, installed, main_card
    from llmctl.engine.install.named import BACKENDS, remedy_named
    from llmctl.host import Host

    toolchain = installed(Host())
    if startable(engines) is None:
        why = next((engine.why for engine in engines if engine.why), "none is installed")
        cpu = remedy_named(BuildName.CPU, machine, toolchain)
        lack = f"The engine that is installed can't run here: {why}."
        return None if cpu is None else _offer(BuildName.CPU, lack, cpu, machine, toolchain)
    card = main_card(machine)
    if card is None or any(each.usable for each in machine.accelerators) or driver_too_old(card, machine):
        return None
    remedy = build_for(card, machine, toolchain)
    name = None if remedy is None else BACKENDS.get(remedy.backend or "")
    if remedy is None or name is None:
        return None
    return _offer(name, f"{card.name} can't be used by the engine that is installed.", remedy, machine, toolchain)


def _offer(name: BuildName, lack: str, remedy: Remedy, machine: Machine, toolchain: Installed) -> BuildOffer:
    from llmctl.engine.install.named import why_compiled

    why = why_compiled(name, machine, toolchain) if remedy.compiles else None
    return BuildOffer(name, lack, remedy.command, remedy.needs, why)


def listed(worker: EngineInfo) -> list[ListedBuild]:
    """The one of this Python first. ``worker`` is what the one in use says of itself; the others are asked."""
    from llmctl.engine import builds

    chosen = builds.chosen()
    own = worker if chosen is None else _asked(_site_packages())
    rows = [ListedBuild(INSTALLED, own, None, is_chosen=chosen is None)]
    for build in builds.builds():
        is_chosen = build == chosen
        rows.append(ListedBuild(build.name, worker if is_chosen else _asked(build.folder), build.folder, is_chosen))
    return rows


def _asked(folder: Path) -> EngineInfo:
    from llmctl.engine.install.python_build import asked

    return asked(folder)


def _site_packages() -> Path:
    return Path(sysconfig.get_path("purelib"))


def install(listener: Listener, name: BuildName, *, yes: bool, model_file: Callable[[], Path | None]) -> PythonBuild:
    """Installs the build with the user's consent, and lets it compute and answer before it takes the place of an older
    one of its name. The one in use stays. ``model_file`` names the model that is to answer.

    Raises UsageError where the machine has no GPU for it or nobody says yes, NetworkError, ResourceError, EngineError.
    """
    from llmctl.engine import builds
    from llmctl.engine.install import python_build

    remedy, cost = _remedy(listener, name)
    listener.note(f"llama-cpp-python for {name}: {cost}.")
    listener.note(f"  {remedy.command}")
    if remedy.needs:
        listener.note(f"  It needs {remedy.needs}.")
    if not (yes or listener.interactive):
        raise UsageError(
            f"llama-cpp-python for {name}: {cost}, and nobody said yes", hint=f"llmctl engine install {name} --yes"
        )
    if not listener.confirm("Install it?", yes=yes):
        raise UsageError("nothing was installed", hint=f"llmctl engine install {name}")
    with python_build.install(name, remedy, listener=listener) as made:
        _try(listener, made, remedy.backend, model_file())
    return PythonBuild(name, builds.place() / name)


def _remedy(listener: Listener, name: BuildName) -> tuple[Remedy, str]:
    """The command, and in words what it takes. Raises UsageError."""
    from llmctl.engine.install import installed
    from llmctl.engine.install.named import remedy_named, why_compiled
    from llmctl.host import Host
    from llmctl.workspace.machine import this_machine

    machine, toolchain = this_machine(listener, measure=False)[0], installed(Host())
    remedy = remedy_named(name, machine, toolchain)
    if remedy is None:
        raise UsageError(f"this machine has no GPU that a build for {name} can use", hint="llmctl doctor")
    if not remedy.compiles:
        return remedy, "a wheel, seconds once it is fetched"
    minutes = f"several times {MINUTES}" if name in LONGER else MINUTES
    return remedy, f"compiled here, {minutes}, because {why_compiled(name, machine, toolchain)}"


def _try(listener: Listener, build: PythonBuild, backend: str | None, file: Path | None) -> None:
    """Raises EngineError for a build that can't compute, lacks its backend, or doesn't answer."""
    about = _asked(build.folder)
    if not about.usable:
        raise EngineError(f"the new build can't be used: {about.why}", hint="llmctl doctor")
    if backend is not None and backend not in about.backends:
        has = ", ".join(about.backends)
        raise EngineError(f"the new build has no {backend}, only {has}", hint="llmctl engine list")
    if build.name is not BuildName.CPU and not any(device.kind in ("gpu", "igpu") for device in about.devices):
        raise EngineError(f"the new build sees no GPU with {backend}", hint="llmctl doctor")
    if file is None:
        listener.note("No model is here to try it with.")
        return
    _answer(build, file)
    listener.note(f"It has answered with {file.name}.")


def _answer(build: PythonBuild, file: Path) -> None:
    """A few words from a model, by a whole `llmctl run` with that build. Raises EngineError."""
    from llmctl import child
    from llmctl.engine.builds import VARIABLE

    asking = ["run", "-m", str(file), "--engine", "llama-cpp", "--local", "--no-stdin", "-q", "-n", "4", "Hello"]
    environ = {**os.environ, VARIABLE: str(build.folder), "LLMCTL_KEEP_ALIVE": "0", "LLMCTL_HISTORY": "false"}
    try:
        done = child.run([sys.executable, "-P", "-m", "llmctl", *asking], environ, TRIAL_S)
    except OSError as error:
        raise EngineError(f"the new build can't be tried: {error.strerror}") from error
    if done is None:
        raise EngineError(f"the new build did not answer within {TRIAL_S:.0f} s", hint="llmctl engine list")
    code, _, err = done
    if code:
        said = " ".join(err.decode("utf-8", "replace").split())[-200:]
        raise EngineError(f"the new build does not answer: {said}", hint="llmctl engine list")


def use(name: str, settings: Settings) -> None:
    """Makes that build the one in use, once it has computed something; one can always go back to the installed one.
    Raises NotFoundError where it isn't here, EngineError where it can't be used, ResourceError."""
    from llmctl.engine import builds
    from llmctl.files import disk
    from llmctl.settings import set_values
    from llmctl.types.engine_name import EngineName

    chosen = None if name == INSTALLED else BuildName(name)
    build = next((each for each in builds.builds() if each.name is chosen), None)
    if chosen is not None and build is None:
        raise NotFoundError(f"there is no build for {name} here", hint=f"llmctl engine install {name}")
    about = None if build is None else _asked(build.folder)
    if about is not None and not about.usable:
        raise EngineError(f"that build can't be used, the one in use stays: {about.why}", hint="llmctl engine list")
    with disk.writing(builds.place(), "the choice of a build"):
        builds.choose(chosen)
    if settings.engine is EngineName.LLAMA_SERVER:
        set_values({"engine": None})
