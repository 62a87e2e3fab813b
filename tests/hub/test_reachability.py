"""How well the hub can be reached: asked of a hub on loopback, in good order and in every disorder."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from llmctl import net, settings
from llmctl.hub import reachability as module
from llmctl.hub.reachability import Reach, reach
from llmctl.types.model import Source
from tests.fakes.hub import FakeHub


def reached(sample: Source | None, **changed: Any) -> Reach:
    return reach(replace(settings.load(), **changed), sample)


@pytest.fixture(autouse=True)
def small_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAMPLE_BYTES", 2 << 20)
    monkeypatch.setattr(module, "SAMPLE_S", 0.5)


def test_a_rate_is_measured_and_the_token_stays_here(
    hub: FakeHub, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.switch(bytes_per_s=8_000_000)
    found = reached(source)
    assert (found.wrong, found.host, found.file_host) == (None, net.host_of(hub.url), net.host_of(hub.cdn_url))
    assert found.bytes_per_s == pytest.approx(8e6, rel=0.4)
    assert all("Authorization" not in asked.headers for asked in hub.requests)
    ranges = [asked.headers["Range"] for asked in hub.requests if asked.side == "cdn"]
    assert ranges == ["bytes=0-2097151"]


def test_a_sample_that_is_not_to_be_had_says_nothing_of_the_hub(hub: FakeHub, source: Source) -> None:
    found = reached(replace(source, repo="maker/gone"))
    assert (found.wrong, found.bytes_per_s) == (None, None)
    assert hub.count("cdn") == 0


def test_a_slow_line_is_given_up_in_time(hub: FakeHub, source: Source) -> None:
    hub.switch(bytes_per_s=200_000)
    found = reached(source)
    assert found.bytes_per_s == pytest.approx(200_000, rel=0.5)


def test_without_a_sample_only_the_hub_is_asked(hub: FakeHub) -> None:
    found = reached(None)
    assert (found.wrong, found.bytes_per_s) == (None, None)
    assert hub.count("cdn") == 0


@pytest.mark.parametrize(
    ("switches", "said"),
    [
        ({"hub_status": 503}, "the model hub {hub} answers 503"),
        ({"cdn_status": 403}, "fetching a sample: {cdn} answers 403"),
        ({"stall_after_bytes": 0}, "{cdn} sent nothing"),
    ],
)
def test_who_failed_is_named(
    hub: FakeHub, source: Source, switches: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmctl.net.timing.TIMING", net.Timing(idle_s=0.5, answer_s=0.5))
    hub.switch(**switches)
    found = reached(source)
    assert said.format(hub=net.host_of(hub.url), cdn=net.host_of(hub.cdn_url)) in (found.wrong or "")
    assert found.bytes_per_s is None
    assert not found.untrusted


def test_offline_nothing_is_asked(hub: FakeHub, source: Source) -> None:
    found = reached(source, offline=True)
    assert "offline" in (found.wrong or "")
    assert hub.requests == []


def test_a_proxy_is_named_without_its_password(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:s3cret@127.0.0.1:9")
    found = reached(source, hub_url="https://hub.example")
    assert found.proxy == "127.0.0.1:9"
    assert "proxy could not be used" in (found.wrong or "")
    assert "s3cret" not in repr(found)


def test_a_ca_file_that_is_not_there(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    found = reached(source, hub_url="https://hub.example")
    assert (found.trust, found.wrong) == ("/nowhere/ca.pem", "the CA file /nowhere/ca.pem does not exist")
