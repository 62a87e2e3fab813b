"""`llmctl run` on one machine hands over to `llmctl serve` on another, over TLS, by the server's pin and a token: two
network namespaces with a cable between them stand for the machines."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.command import argv
from tests.fakes.scripted_model import write_scripted

pytestmark = pytest.mark.usefixtures("measured")
SERVER, CLIENT = "10.77.0.2", "10.77.0.1"
HOLDER = ["sleep", "300"]


class Machine:
    """A network namespace, and a home of its own."""

    def __init__(self, holder: int, home: Path) -> None:
        self.holder, self.home = holder, home

    def command(self, *words: str) -> list[str]:
        return ["nsenter", f"--target={self.holder}", "--user", "--preserve-credentials", "--net", *words]

    @property
    def environment(self) -> dict[str, str]:
        places = {f"XDG_{name.upper()}_HOME": str(self.home / name) for name in ("config", "data", "state")}
        runtime = {"HOME": str(self.home), "XDG_RUNTIME_DIR": str(self.home / "runtime")}
        return {**os.environ, **places, **runtime}  # what was measured is the same for both

    def run(self, *words: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words), env=self.environment, capture_output=True, text=True, timeout=timeout, cwd=self.home
        )


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[tuple[Machine, Machine]]:
    """The client's and the server's. Skips where the system lets nobody make namespaces."""
    if any(shutil.which(program) is None for program in ("unshare", "nsenter", "ip")):
        pytest.skip("unshare, nsenter and ip make network namespaces, and one of them is not here")
    with ExitStack() as holders:
        homes = [tmp_path / name for name in ("client", "server")]
        for home in homes:
            (home / "runtime").mkdir(parents=True, mode=0o700)
        client = Machine(holders.enter_context(held("unshare", "--user", "--map-root-user", "--net")), homes[0])
        server = Machine(holders.enter_context(held(*client.command("unshare", "--net"))), homes[1])
        cable = f"ip link add near type veth peer name far && ip link set far netns {server.holder}"
        ends = [(client, "near", CLIENT), (server, "far", SERVER)]
        made = client.run("sh", "-c", cable)
        for machine, end, address in ends if made.returncode == 0 else ():
            up = f"ip link set lo up && ip address add {address}/24 dev {end} && ip link set {end} up"
            made = machine.run("sh", "-c", up)
        if made.returncode:
            pytest.skip(f"no network namespaces with a cable between them can be made: {made.stderr.strip()}")
        yield client, server


@contextmanager
def held(*command: str) -> Iterator[int]:
    """The number of a process in a new namespace."""
    with subprocess.Popen([*command, *HOLDER], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 10
            while process.poll() is None and Path(f"/proc/{process.pid}/comm").read_text().strip() != HOLDER[0]:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            if process.poll() is not None:
                pytest.skip("the system lets nobody make a network namespace")
            yield process.pid
        finally:
            process.kill()


@contextmanager
def serving(machine: Machine, model: str) -> Iterator[dict[str, Any]]:
    """A gateway there, and what it says when it listens."""
    command = machine.command(*argv("serve", model, "--host", SERVER, "--port", "0", "--json"))
    with subprocess.Popen(
        command, env=machine.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=machine.home
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        try:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            yield json.loads(line)["data"]
        finally:
            process.terminate()
            process.communicate(timeout=40)


def test_one_machine_hands_over_to_the_other(tmp_path: Path, machines: tuple[Machine, Machine]) -> None:
    client, server = machines
    there = str(write_scripted(tmp_path / "large.gguf", ["From", " there"]))
    with serving(server, there) as about:
        assert about["address"].startswith(f"https://{SERVER}:") and about["pin"].startswith("sha256:")
        key = client.home / "gateway.token"
        key.write_text(about["token"])
        key.chmod(0o600)
        words = shlex.split(about["endpoint_add"].replace("~", str(client.home)))
        added = client.run(*argv(*words[1:], "--model", "large"))
        assert added.returncode == 0, added.stderr

        ask = ("env", "LLMCTL_MIN_TOK_S=1000000000", *argv("run", "--json", "hi"))  # so fast is nothing here
        handed = client.run(*ask)
        data = json.loads(handed.stdout)["data"]
        assert data["route"]["left_because"] == "nothing-fits", handed.stdout
        assert (data["text"], data["left_machine"]["host"]) == ("From there", about["address"].split("/")[2])
        receipts = json.loads(client.run(*argv("receipts", "--json")).stdout)["data"]["receipts"]
        assert [(receipt["tls"], receipt["pin"]) for receipt in receipts] == [(True, True)]

        key.write_text("of somebody else")
        refused = client.run(*ask)
        assert refused.returncode == 9, refused.stdout
