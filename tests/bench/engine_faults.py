"""What becomes of a command when its engine, its parent, its memory, its folder or its port fails: a table.

    python -m tests.bench.engine_faults [--only WORDS]

Each row runs the command line with a tiny model in a home of its own, does one thing to it, and tells the exit codes,
the last line that a person reads, the processes that are left over after ORPHAN_S (engines that `llmctl ps` lists are
none), and whether the next run answers. Rows that this machine can't do say why. Ends with 1 if something is left over,
a next run fails, or an exit code is not the one that is expected.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.bench.tiny_home import WAIT_S, CannotError, Place, until
from tests.fakes.control_group import control_group

ORPHAN_S = 5.0
STAYS = ("--keep-alive", "60s")


@dataclass(frozen=True)
class Outcome:
    """What was seen of a row."""

    codes: Sequence[int]
    said: str


Fault = Callable[[Place], Outcome]


def end(commands: Sequence[subprocess.Popen[str]]) -> Outcome:
    """Waits for them: their exit codes, and the last line of the last that failed."""
    codes, said = [], ""
    for command in commands:
        try:
            _, err = command.communicate(timeout=WAIT_S)
        except subprocess.TimeoutExpired:
            command.kill()
            err = f"still there after {WAIT_S:.0f} s"
        codes.append(command.returncode)
        lines = [line for line in err.splitlines() if line.startswith(("error:", "warning:"))] or err.splitlines()[-1:]
        said = lines[-1] if lines and (command.returncode or not said) else said
    return Outcome(codes, said)


def any_writes(commands: Sequence[subprocess.Popen[str]]) -> None:
    """Waits until one of them has written something of its answer, or all have ended."""
    streams = [command.stdout for command in commands if command.stdout is not None]
    until(lambda: select.select(streams, [], [], 0)[0], "an answer")


def signalled(stage: str, number: signal.Signals, clients: int) -> Fault:
    """The engine gets a signal while it loads, reads a prompt, or writes, for one command or for several that share
    it."""

    def fault(place: Place) -> Outcome:
        options = ("-n", "100000", *(STAYS if clients > 1 else ()))
        if stage == "prefill":
            options += ("-f", str(place.long))
        commands = [place.asks(*options) for _ in range(clients)]
        until(place.workers, "an engine")
        if stage != "load":
            for command in commands:
                assert command.stderr is not None
                while "loaded" not in (line := command.stderr.readline()) and line:
                    pass
        if stage == "decode":
            any_writes(commands)
        elif stage == "prefill":
            time.sleep(0.5)
        for worker in place.workers():
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.send_signal(number)
        if stage == "load" and clients > 1:  # those that have waited for it start one of their own
            time.sleep(2)
            for command in commands:
                command.send_signal(signal.SIGINT)
        return end(commands)

    return fault


def parent_killed(stage: str, *options: str) -> Fault:
    def fault(place: Place) -> Outcome:
        command = place.asks("-n", "100000", *options)
        until(place.workers, "an engine")
        if stage == "decode":
            any_writes([command])
        command.kill()
        return end([command])

    return fault


def limited_addresses(place: Place) -> Outcome:
    def before() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (700 << 20, 700 << 20))

    return end([place.asks("-n", "4", "--context", str(1 << 17), before=before)])


def killed_for_memory(place: Place) -> Outcome:
    """A control group whose limit shrinks once the engine loads: planning has seen the larger one."""
    with control_group() as group:
        if isinstance(group, str):
            raise CannotError(group)
        procs = group.procs
        command = place.asks("-n", "4", "--context", str(1 << 17), before=lambda: enter(procs))
        until(lambda: any(log.stat().st_size for log in place.state.glob("*.log")), "loading")
        group.leave(16 << 20)
        return end([command])


def enter(procs: Path) -> None:
    procs.write_text(str(os.getpid()))


def no_port(place: Place) -> Outcome:
    """A network of its own with one port to choose, which is taken."""
    if os.getuid() != 0:
        raise CannotError("only root can make a network of its own")
    script = (
        "import fcntl, os, socket, struct, sys\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "fcntl.ioctl(s, 0x8914, struct.pack('16sh', b'lo', 0x41))\n"  # SIOCSIFFLAGS: up and running
        "open('/proc/sys/net/ipv4/ip_local_port_range', 'w').write('40001 40001')\n"
        "taken = socket.create_server(('127.0.0.1', 40001)); os.set_inheritable(taken.fileno(), True)\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'llmctl', *sys.argv[1:]])\n"
    )
    unshare = shutil.which("unshare")
    if unshare is None:
        raise CannotError("there is no unshare")
    argv = [unshare, "-n", sys.executable, "-c", script, "run", "--local", "-m", str(place.short), "hi"]
    return end(
        [subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=place.environment)]
    )


def runtime_folder(spoil: Callable[[Path], None], *options: str, setting: bool = False) -> Fault:
    def fault(place: Place) -> Outcome:
        folder = Path(place.environment["XDG_RUNTIME_DIR"])
        spoil(folder)
        environment = dict(place.environment)
        try:
            if setting:
                place.environment["LLMCTL_KEEP_ALIVE"] = "60s"
            return end([place.start("run", "--local", "-m", str(place.short), *options, "hi")])
        finally:
            place.environment = environment
            with contextlib.suppress(OSError):
                folder.chmod(0o700)

    return fault


def read_only(folder: Path) -> None:
    if os.getuid() == 0:
        raise CannotError("nothing is read-only for root")
    folder.chmod(0o500)


def missing(folder: Path) -> None:
    folder.rmdir()
    folder.touch()


def anothers(folder: Path) -> None:
    (folder / "llmctl").mkdir(mode=0o700)
    try:
        os.chown(folder / "llmctl", 12345, 12345)
    except PermissionError as error:
        raise CannotError("only root can give a folder away") from error


def two_at_once(place: Place) -> Outcome:
    outcome = end([place.start("run", "--local", "-m", str(place.short), *STAYS, "hi") for _ in range(2)])
    return Outcome(outcome.codes, f"{len(place.staying())} engine stays; {outcome.said}")


def clock_set_back(place: Place) -> Outcome:
    """As if it had been by a day: what stays seems to have been used tomorrow."""
    end([place.start("run", "--local", "-m", str(place.short), *STAYS, "hi")])
    (entry,) = (Path(place.environment["XDG_RUNTIME_DIR"]) / "llmctl").glob("*.json")
    os.utime(entry, (time.time() + 86_400,) * 2)
    outcome = end([place.start("run", "--local", "-m", str(place.short), "hi")])
    return Outcome(outcome.codes, f"{len(place.staying())} engine stays; {outcome.said}")


def died_twice(place: Place) -> Outcome:
    kill = signalled("load", signal.SIGKILL, 1)
    for _ in range(2):
        kill(place)
    return end([place.asks("-n", "100000")])


def rows() -> Iterator[tuple[str, set[int], Fault]]:
    """What is done, the exit codes that may come of it, and how it is done."""
    for number in (signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP):
        for stage in ("load", "prefill", "decode"):
            for clients in (1, 4):
                codes = {8, 130} if stage == "load" and clients > 1 else {8}
                yield (
                    f"{number.name} at {stage}, {clients} client{'s' * (clients > 1)}",
                    codes,
                    signalled(stage, number, clients),
                )
    yield "died twice at load", {8}, died_twice
    yield "parent SIGKILLed at load", {-9}, parent_killed("load")
    yield "parent SIGKILLed at decode", {-9}, parent_killed("decode")
    yield "parent SIGKILLed at decode, keep-alive", {-9}, parent_killed("decode", *STAYS)
    yield "ulimit -v", {0}, limited_addresses  # after one step down
    yield "control group's limit", {0, 8}, killed_for_memory  # after some, or where none helps
    yield "port taken", {7}, no_port
    for name, spoil in (("read-only", read_only), ("missing", missing), ("another user's", anothers)):
        yield f"runtime folder {name}, --keep-alive", {7}, runtime_folder(spoil, *STAYS)
        yield f"runtime folder {name}, the setting", {0}, runtime_folder(spoil, setting=True)
    yield "two keep-alives at once", {0}, two_at_once
    yield "clock set back", {0}, clock_set_back


def left_over(place: Place) -> int:
    """Engines that nobody lists, ORPHAN_S after the end."""
    deadline = time.monotonic() + ORPHAN_S
    while True:
        staying = place.staying()
        orphans = [worker for worker in place.workers() if worker.pid not in staying]
        if not orphans or time.monotonic() > deadline:
            return len(orphans)
        time.sleep(0.1)


def next_run_works(place: Place) -> bool:
    with contextlib.suppress(OSError):
        shutil.rmtree(
            place.environment["XDG_RUNTIME_DIR"] + "/llmctl"
        ) if os.getuid() == 0 and not place.staying() else 0
    command = place.start("run", "--local", "-m", str(place.short), "hi")
    out, _ = command.communicate(timeout=WAIT_S)
    return command.returncode == 0 and out.startswith("The answer")


def row(name: str, expected: set[int], fault: Fault) -> tuple[str, bool]:
    with tempfile.TemporaryDirectory(prefix="llmctl-faults-", ignore_cleanup_errors=True) as folder:
        place = Place(Path(folder))
        try:
            outcome = fault(place)
        except CannotError as error:
            return f"| {name} | – | skipped: {error} | – | – |", True
        finally:
            orphans = left_over(place)
        works = next_run_works(place)
        for worker in place.workers():
            worker.kill()
    codes = ", ".join(map(str, outcome.codes))
    good = set(outcome.codes) <= expected and not orphans and works
    said = outcome.said.replace(folder, "~").replace("|", "/")
    return f"| {name} | {codes} | {said} | {orphans or 'none'} | {'yes' if works else 'NO'} |", good


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--only", default="", help="rows whose name contains this")
    given = options.parse_args()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as shells start jobs in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    print("| fault | exit code | message | orphans after 5 s | next run works |\n| --- | --- | --- | --- | --- |")
    bad = []
    for name, expected, fault in rows():
        if given.only in name:
            line, good = row(name, expected, fault)
            print(line if good else f"{line} UNEXPECTED", flush=True)
            bad += [] if good else [name]
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
