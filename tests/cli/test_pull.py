"""``llmctl pull`` as it is typed, against a hub on loopback and a catalogue entry of the user's own."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import ssl
import threading
import time
from pathlib import Path

import pytest
import trustme

from llmctl import net
from llmctl.cli import main
from tests.fakes.command import llmctl, spawn
from tests.fakes.hub import COMMIT, FakeHub
from tests.fakes.socks import SocksProxy

REPO = "maker/tiny-GGUF"

pytestmark = pytest.mark.usefixtures("kernels_known")


def place(home: Path, quant: str) -> Path:
    return home / f"cache/huggingface/hub/models--maker--tiny-GGUF/snapshots/{COMMIT}/tiny-{quant}.gguf"


def test_the_path_is_all_that_goes_to_stdout(hub: FakeHub, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pull", "tiny:q8_0"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{place(home, 'Q8_0')}\n"
    assert err.splitlines()[0] == f"Tiny 1B Q8_0: 2 MB from {REPO} on {hub.url.removeprefix('http://')}"
    asked = len(hub.requests)
    assert main(["pull", "tiny:Q8_0"]) == 0
    again = capsys.readouterr()
    assert again.out == out
    assert again.err == "Tiny 1B Q8_0 is on this machine\n"
    assert len(hub.requests) == asked


def test_quiet(hub: FakeHub, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pull", "-q", "tiny:Q4_0"]) == 0
    assert capsys.readouterr() == (f"{place(home, 'Q4_0')}\n", "")


def test_json(hub: FakeHub, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON Lines while something is fetched, and then the document."""
    size = hub.size(REPO, "tiny-Q4_0.gguf")
    for fetched in (True, False):
        assert main(["pull", "--json", "tiny:Q4_0"]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        *lines, said = map(json.loads, out.splitlines())
        assert bool(lines) is fetched
        for line in lines:
            assert (line["schema"], line["command"], line["event"]) == ("llmctl/1", "pull", "progress")
            assert set(line) == {
                "schema", "command", "event", "name", "done_bytes", "total_bytes", "bytes_per_s", "left_s",
            }  # fmt: skip
            assert line["total_bytes"] == size
        assert not lines or lines[-1]["done_bytes"] == size
        assert (said["schema"], said["command"], said["error"]) == ("llmctl/1", "pull", None)
        data = said["data"]
        assert data["source"].pop("revision") == "main"
        assert data == {
            "model": "tiny",
            "quant": "Q4_0",
            "path": str(place(home, "Q4_0")),
            "files": [str(place(home, "Q4_0"))],
            "folder": None,
            "bytes": size,
            "fetched": fetched,
            "source": {"kind": "hub", "repo": REPO, "file": "tiny-Q4_0.gguf", "bytes": size, "sha256": None},
        }


def test_without_a_quant_the_planner_chooses(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    from llmctl.cli.output import Output
    from llmctl.types.plan import Plan
    from llmctl.workspace import situation

    found = situation.look(Output("test"))
    planned = found.plan(found.candidates("tiny"), situation.want(found.settings))
    assert isinstance(planned, Plan)
    capsys.readouterr()
    assert main(["pull", "tiny"]) == 0
    assert capsys.readouterr().out.rstrip().endswith(planned.choice.candidate.artifact.source.file)


def test_what_cannot_run_here_is_fetched_only_by_its_full_name(
    hub: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pull", "vast"]) == 3
    assert "llmctl pull vast:Q4_0" in capsys.readouterr().err
    assert hub.requests == []
    assert main(["pull", "vast:Q4_0"]) == 4  # the hub was asked, and has no such file
    err = capsys.readouterr().err
    assert f"{REPO} on " in err
    assert hub.count("hub", "HEAD") == 1


@pytest.mark.parametrize(
    ("arguments", "switches", "code", "words"),
    [
        (["nonesuch"], {}, 4, "nonesuch"),
        (["tiny:Q1_0"], {}, 4, "Q1_0"),
        ([], {}, 2, "NAME"),
        (["tiny:Q4_0"], {"hub_status": 401}, 9, "HF_TOKEN"),
        (["tiny:Q4_0"], {"hub_status": 403, "error_code": "GatedRepo"}, 9, "licence"),
        (["tiny:Q4_0"], {"hub_status": 429, "retry_after": "900"}, 5, "900 s"),
        (["tiny:Q4_0"], {"wrong_byte_at": 1_000_000}, 6, "sha256"),
        (["tiny:Q4_0"], {"linked_bytes": 1 << 42}, 7, "4.4 TB"),
        (["tiny:Q4_0"], {"cdn_status": 503}, 5, "CDN answers 503"),
        (["tiny:Q4_0"], {"hub_status": 503}, 5, "HUB answers 503"),
        (["maker/tinny-GGUF"], {}, 4, f"there is {REPO}"),
        ([f"{REPO}:Q5_K_M"], {}, 4, "has no Q5_K_M, but Q4_0, Q8_0"),
        ([f"{REPO}:Q4_0", "--revision", "v9"], {}, 4, "no revision v9"),
        ([REPO], {"hub_status": 401}, 9, "HF_TOKEN"),
        ([REPO], {"hub_status": 403, "error_code": "GatedRepo"}, 9, f"open HUBPAGE/{REPO}, accept"),
        ([REPO], {"hub_status": 429, "retry_after": "900"}, 5, "900 s"),
        ([REPO], {"hub_status": 500}, 5, "HUB answers 500"),
        (["--offline", f"{REPO}:Q4_0"], {}, 5, "offline"),
        (["--offline", "tiny:Q4_0"], {}, 5, "offline"),
        (["https://example.org/x.gguf"], {}, 2, "--sha256"),
        (["tiny", "--sha256", "0" * 64], {}, 2, "--sha256"),
        (["tiny", "--revision", "main"], {}, 2, "--revision"),
        (["tiny", "--to", "x", "--from", "x"], {}, 2, "exclude"),
        (["tiny", "--limit-rate", "fast"], {}, 2, "'fast'"),
        (["./x.gguf", "--revision", "main"], {}, 2, "--revision"),
        (["https://example.org/x.gguf", "--revision", "main"], {}, 2, "--revision"),
        (["--from", "x", "--limit-rate", "1M"], {}, 2, "--limit-rate"),
        (["smollm2-135m-instruct:Q4_1", "--limit-rate", "1M"], {}, 2, "pip"),
        (["--from", "nowhere"], {}, 4, "nowhere"),
        (["./nothing.gguf"], {}, 4, "nothing.gguf"),
    ],
)
def test_exit_codes(
    arguments: list[str],
    switches: dict[str, object],
    code: int,
    words: str,
    hub: FakeHub,
    home: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    hub.switch(**switches)
    assert main(["pull", *arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    words = (
        words.replace("HUBPAGE", hub.url).replace("HUB", net.host_of(hub.url)).replace("CDN", net.host_of(hub.cdn_url))
    )
    assert words in err
    assert "\n  next: " in err
    assert "Traceback" not in err
    assert list(home.rglob("*.incomplete*")) == []


SECRETS = (
    ("LLMCTL_HUB_URL", "ftp://user:password@host"),
    ("HF_ENDPOINT", "user:password@host"),
    ("HF_ENDPOINT", "https://user:pass/password@host:x"),
    ("HF_ENDPOINT", "ftp://host/?token=password"),
)


@pytest.mark.parametrize(("variable", "value"), SECRETS)
def test_a_password_in_the_hubs_address_is_not_shown(
    variable: str, value: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    assert main(["pull", "tiny:Q4_0"]) == 10
    err = capsys.readouterr().err
    assert f"{variable} is '" in err and "host" in err
    assert "password" not in err


def test_a_hub_that_is_down(hub: FakeHub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as bound:  # a port that nobody listens on
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        monkeypatch.setenv("HF_ENDPOINT", f"http://{address}")
        for name in ("tiny:Q4_0", f"{REPO}:Q4_0"):
            assert main(["pull", name]) == 5
            assert address in capsys.readouterr().err


@pytest.mark.parametrize("variable", ["ALL_PROXY", "all_proxy", "HTTP_PROXY"])
def test_through_a_socks_proxy(
    variable: str, hub: FakeHub, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    with SocksProxy(("127.0.0.1", int(hub.url.rpartition(":")[2]))) as proxy:
        monkeypatch.setenv(variable, f"socks5h://{proxy.address}")
        assert main(["pull", "tiny:Q4_0"]) == 0
    assert capsys.readouterr().out == f"{place(home, 'Q4_0')}\n"
    assert set(proxy.asked) == {"hub.invalid:80"}  # the proxy looks the name up; loopback goes through none


def test_a_socks_proxy_that_is_down(
    hub: FakeHub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as bound:  # a port that nobody listens on
        bound.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
        monkeypatch.setenv("ALL_PROXY", f"socks5h://user:secret@127.0.0.1:{bound.getsockname()[1]}")
        assert main(["pull", "tiny:Q4_0"]) == 5
    err = capsys.readouterr().err
    assert "Connection refused" in err and "PROXY" in err
    assert "secret" not in err and "Traceback" not in err


def test_a_certificate_that_nobody_vouches_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=_handshakes, args=(listening, context), daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"https://127.0.0.1:{listening.getsockname()[1]}")
        assert main(["pull", f"{REPO}:Q4_0"]) == 5
    err = capsys.readouterr().err
    assert "certificate" in err and "SSL_CERT_FILE=" in err


def _handshakes(listening: socket.socket, context: ssl.SSLContext) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listening.accept()
            with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True):
                pass


def test_an_error_is_the_last_line_of_json(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    hub.switch(wrong_byte_at=1_000_000)
    assert main(["pull", "--json", "tiny:Q4_0"]) == 6
    *lines, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert lines and all(line["event"] == "progress" for line in lines)
    assert (last["data"], last["error"]["code"]) == (None, "integrity")


def test_offline(hub: FakeHub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["pull", "tiny:Q4_0"]) == 0
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["pull", "tiny:Q4_0"]) == 0
    assert main(["pull", "tiny:Q8_0"]) == 5
    assert "offline" in capsys.readouterr().err


def test_ctrl_c_keeps_the_part_and_the_same_command_goes_on(hub: FakeHub, home: Path) -> None:
    hub.switch(bytes_per_s=1_000_000)
    with spawn("pull", "tiny:Q4_0") as running:
        until_s = time.monotonic() + 30
        while not any(path.stat().st_size > 200_000 for path in home.rglob("*.incomplete")):
            assert time.monotonic() < until_s
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=30)
    assert running.returncode == 130
    assert out == b""
    assert b"stopped at " in err.splitlines()[-1]
    assert b"Traceback" not in err
    (left,) = home.rglob("*.incomplete")
    kept = left.stat().st_size
    hub.switch()
    done = llmctl("pull", "tiny:Q4_0")
    assert done.returncode == 0, done.stderr
    assert hub.requests[-1].headers["Range"] == f"bytes={kept}-"
    assert done.stdout == f"{place(home, 'Q4_0')}\n"
