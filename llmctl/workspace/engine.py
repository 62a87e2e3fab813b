"""The engines on this machine: which there are, which answers, and compiling llama-server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from llmctl import paths, units
from llmctl.errors import EngineError, UsageError
from llmctl.settings import Settings, set_values
from llmctl.types.engine import NativeServer, ServerSource
from llmctl.types.engine_name import INSTALLED, BuildName, EngineName
from llmctl.types.listener import Listener
from llmctl.workspace import engine_builds

if TYPE_CHECKING:
    from llmctl.engine.llama_server.programs import Program
    from llmctl.types.machine import EngineInfo
    from llmctl.types.plan import Fit
    from llmctl.workspace.situation import Situation

MOST_TRIED = 5  # models that are looked at for one that writes
TRIAL_CONTEXT = 512
BUILDS = (INSTALLED, *BuildName)
INSTALL = "llmctl engine install llama-server"


class Listed(Struct, frozen=True):
    """An engine as it is shown. ``path`` is its program, or the folder of a build of llama-cpp-python, None for the one
    of this Python; ``source`` how a program is known; ``build_name`` that of a build of llama-cpp-python;
    ``is_stale``: built for libraries that pip has replaced; ``is_used``: it answers when nothing else is asked for;
    ``bytes`` is the disk that llmctl's own take."""

    name: EngineName
    about: EngineInfo
    path: str | None = None
    source: str | None = None
    is_stale: bool = False
    is_used: bool = False
    build_name: str | None = None
    bytes: int | None = None


def summary() -> list[str]:
    """A line for each engine and build, the one in use first: "llama-cpp-python 0.3.36 (ggml 0.25.3 d25f87b; CPU)"."""
    from llmctl import settings
    from llmctl.engine import devices
    from llmctl.engine.llama_server import programs
    from llmctl.errors import ConfigError
    from llmctl.host import Host

    worker = devices.engines(Host())[0]
    builds = sorted(engine_builds.listed(worker), key=lambda build: not build.is_chosen)
    lines = [_in_a_line(build.about, build.name if len(builds) > 1 else None) for build in builds]
    try:
        servers = list(programs.programs(settings.load().llama_server))
    except ConfigError:  # which every other command says
        servers = []
    return lines + [_in_a_line(programs.asked(program), str(program.path)) for program in servers]


def _in_a_line(about: EngineInfo, label: str | None) -> str:
    from llmctl.engine.devices import summary as engine_summary

    return engine_summary(about) + ("" if label is None else f" · {label}")


def listed(listener: Listener, settings: Settings) -> list[Listed]:
    """All there are, with the one that answers."""
    from llmctl.engine.llama_server import programs
    from llmctl.planner.engine import choice
    from llmctl.workspace.machine import this_machine

    machine, (worker, *_) = this_machine(listener, measure=False)
    servers = [(program, programs.asked(program)) for program in programs.programs(settings.llama_server)]
    usable = next((programs.server_of(*server, worker) for server in servers if server[1].usable), None)
    try:
        used = choice(settings.engine, worker, machine.accelerators, lambda: usable)
        path = None if used.server is None else used.server.path
    except EngineError:
        path = ""
    return [*_builds(worker, is_used=path is None), *(_row(program, about, path) for program, about in servers)]


def _builds(worker: EngineInfo, *, is_used: bool) -> Iterator[Listed]:
    from llmctl.files.disk import folder_bytes

    for build in engine_builds.listed(worker):
        path = None if build.folder is None else str(build.folder)
        used = is_used and build.is_chosen
        size = None if build.folder is None else folder_bytes(build.folder)
        yield Listed(EngineName.LLAMA_CPP, build.about, path, is_used=used, build_name=build.name, bytes=size)


def _row(program: Program, about: EngineInfo, used: str | None) -> Listed:
    from llmctl.files.disk import folder_bytes

    path, is_own = str(program.path), program.source is ServerSource.BUILT
    size = folder_bytes(program.path.parent) if is_own else None
    return Listed(EngineName.LLAMA_SERVER, about, path, program.source, program.is_stale, path == used, bytes=size)


def find_server(settings: Settings, worker: EngineInfo | None = None) -> NativeServer | None:
    """The first llama-server that can be used, beside llama-cpp-python as ``worker``."""
    from llmctl.engine.llama_server import programs

    for program in programs.programs(settings.llama_server):
        if (about := programs.asked(program)).usable:
            return programs.server_of(program, about, worker)
    return None


def with_server(listener: Listener, situation: Situation, planned: Fit) -> Fit:
    """``planned`` with the engine that is to run it; the listener is told why where nobody has asked for it. Raises
    EngineError where what was asked for is not there."""
    from llmctl.planner.engine import choice

    settings, worker = situation.settings, next(iter(situation.engines), None)
    chosen = choice(settings.engine, worker, situation.machine.accelerators, lambda: find_server(settings, worker))
    if chosen.reason is not None:
        listener.note(f"llama-server answers: {chosen.reason}")
    return replace(planned, server=chosen.server)


def use(name: str, path: Path | None, settings: Settings) -> Path:
    """Sets which engine answers from now on; "auto": llmctl chooses. ``path``: a llama-server of the user's own.

    Returns the file of settings. Raises UsageError, and EngineError for a llama-server that can't be used.
    """
    names = ["auto", *EngineName, *BUILDS]
    if name not in names:
        raise UsageError(f"there is no engine named {name!r}, only {', '.join(names)}", hint="llmctl engine list")
    if name in BUILDS and path is None:
        engine_builds.use(name, settings)
        return paths.config_file()
    if path is not None and name != EngineName.LLAMA_SERVER:
        raise UsageError("--path names a llama-server", hint="llmctl engine use llama-server --path FILE")
    values: dict[str, str | None] = {"engine": None if name == "auto" else name}
    if path is not None:
        values["llama_server"] = str(path.absolute())
    if name == EngineName.LLAMA_SERVER:
        server = find_server(settings if path is None else replace(settings, llama_server=path.absolute()))
        if server is None or (path is not None and server.path != str(path.absolute())):
            where = "on this machine" if path is None else f"at {path}"
            raise EngineError(f"there is no llama-server {where} that can be used", hint=INSTALL)
    return set_values(values)


def install_build(listener: Listener, settings: Settings, name: BuildName, *, yes: bool) -> Path:
    """As ``engine_builds.install``; the smallest model on this machine answers. Returns the build's folder. Raises
    OfflineError, too."""
    settings.require_network(f"llama-cpp-python for {name}")

    def model_file() -> Path | None:
        fit = _smallest_here(listener, settings)
        return None if fit is None else fit.candidate.path

    return engine_builds.install(listener, name, yes=yes, model_file=model_file).folder


def install(listener: Listener, settings: Settings, *, yes: bool) -> Path:
    """Compiles llama-server with the user's consent, tries it with a model that is here, and returns its program.

    Where it is up to date, nothing is done. Raises UsageError where nobody may be asked, OfflineError, NetworkError,
    NotFoundError, ResourceError, and EngineError for what can't be compiled or doesn't answer.
    """
    from llmctl.engine.install import llama_server

    build = llama_server.required()
    program = next((path for path, is_current in llama_server.built() if is_current), None)
    if program is not None:
        listener.note(f"llama-server for llama-cpp-python {build.version} is here already.")
        return program
    _require_consent(listener, build.version, _threads(), yes=yes)
    settings.require_network(f"the source of {build.requirement}")
    with llama_server.install(build, threads=_threads(), listener=listener) as made:
        _try(listener, settings, made)
    return llama_server.folder() / build.name / llama_server.PROGRAM


def _require_consent(listener: Listener, version: str, threads: int, *, yes: bool) -> None:
    from llmctl.engine.install import llama_server

    what = f"llama-server for llama-cpp-python {version}"
    cost = (
        f"{units.size(llama_server.SOURCE_BYTES)} to fetch, {llama_server.FILES} files to compile, some "
        f"{units.seconds(llama_server.seconds(threads))} with {units.number_of(threads, 'thread')}"
    )
    if not (yes or listener.interactive):
        raise UsageError(f"{what} is not on this machine: {cost}, and nobody said yes", hint=f"{INSTALL} --yes")
    if not listener.confirm(f"Compile {what}, {cost}?", yes=yes):
        raise UsageError("llama-server was not compiled", hint=INSTALL)


def _threads() -> int:
    from llmctl.host import Host
    from llmctl.probe import cpu

    return cpu.cpu(Host())[0].usable_threads


def _try(listener: Listener, settings: Settings, program: Path) -> None:
    """Loads a model with it: what a program says of itself proves little. Raises EngineError."""
    from llmctl.engine.llama_server import programs
    from llmctl.engine.llama_server.start import start

    compiled = programs.Program(program, ServerSource.BUILT)
    about = programs.asked(compiled)
    if not about.usable:
        raise EngineError(f"llama-server was compiled, and can't be used: {about.why}", hint="llmctl doctor")
    fit = _smallest_here(listener, settings)
    if fit is None:
        listener.note("No model is here to try it with.")
        return
    with start(replace(fit, server=programs.server_of(compiled, about))) as engine:
        name = f"{fit.candidate.model.id} {fit.candidate.artifact.quant}"
        listener.note(f"It has loaded {name} in {units.seconds(engine.load_s)}.")


def _smallest_here(listener: Listener, settings: Settings) -> Fit | None:
    """What runs the smallest model on this machine that writes; None where there is none."""
    from llmctl.errors import LlmctlError
    from llmctl.types.plan import Fit
    from llmctl.workspace import choose, situation

    shelf = situation.shelf(listener, loaded=settings)
    models = [item for item in shelf.items() if not (item.projector or item.missing)]
    machine = situation.look(listener, before=shelf, measure=False) if models else None
    for item in sorted(models, key=lambda item: item.bytes)[:MOST_TRIED]:
        assert machine is not None
        with suppress(LlmctlError):
            wanted = situation.want(settings, context=TRIAL_CONTEXT, explicit=True)
            if isinstance(planned := choose.choose(machine, str(item.path), wanted), Fit):
                return planned
    return None
