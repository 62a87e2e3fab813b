"""What calls have seen of endpoints, kept for the next ones in ``endpoints.json`` of the state folder.

No word of a server stands there, which might repeat a prompt. That it can't be written changes no answer.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from llmctl import paths
from llmctl.engine.warm.process import Process, started
from llmctl.errors import CertificateError, LlmctlError, NetworkError, ResourceError, UnreachableError
from llmctl.files import atomic
from llmctl.router.availability import Availabilities, Availability, is_pooled
from llmctl.struct import asdict
from llmctl.types.endpoint import Endpoint

LIMIT_BYTES = 256 << 10
LONGEST_S = 3600.0  # a prompt that was begun before that is answered or forgotten by now
MOST_LOOKS = 8  # at a lock that others hold for milliseconds


class AskedServer(Struct, frozen=True):
    """A prompt that a process has sent and that is not answered yet."""

    process: Process
    begun_s: float

    @property
    def goes_on(self) -> bool:
        return 0 <= time.time() - self.begun_s < LONGEST_S and self.process.is_alive


class KeptAvailability(Struct, frozen=True):
    """What is kept of one endpoint; the fields are those of ``Availability``."""

    failures: int = 0
    why: str = ""
    rests_until_s: float = 0.0
    probed_until_s: float = 0.0
    asking: tuple[AskedServer, ...] = ()

    @property
    def availability(self) -> Availability:
        going_on = sum(asking.goes_on for asking in self.asking)
        return Availability(self.failures, self.why, self.rests_until_s, self.probed_until_s, going_on)

    def with_(self, seen: Availability) -> KeptAvailability:
        return replace(
            self,
            failures=seen.failures,
            why=seen.why,
            rests_until_s=seen.rests_until_s,
            probed_until_s=seen.probed_until_s,
        )


NOTHING = KeptAvailability()


def look(endpoints: tuple[Endpoint, ...]) -> Availabilities:
    """What is known of the endpoints."""
    kept = _read() if endpoints else {}
    return {endpoint.name: kept[_key(endpoint)].availability for endpoint in endpoints if _key(endpoint) in kept}


def forget(endpoint: Endpoint) -> None:
    """It answers: whatever has failed before counts no more."""
    if _key(endpoint) in _read():
        _change(endpoint, lambda kept: replace(NOTHING, asking=kept.asking))


@contextmanager
def noted(endpoint: Endpoint, among: tuple[Endpoint, ...]) -> Iterator[None]:
    """The endpoint, one of ``among``, is asked meanwhile: that is counted where others share its work, and how it ends
    is kept. What it refuses says that it is there; what the user ends, nothing."""
    asking = AskedServer(_own_process(), time.time()) if is_pooled(endpoint, among) else None
    was_bad = look((endpoint,)).get(endpoint.name, Availability()).failures > 0
    if asking is not None or was_bad:
        _change(endpoint, lambda kept: _begun(kept, asking))
    try:
        yield
    except CertificateError:
        raise
    except NetworkError as error:
        failure = error
        _change(endpoint, lambda kept: _failed(kept, failure))
        raise
    except LlmctlError:
        if was_bad:
            forget(endpoint)
        raise
    else:
        if was_bad:
            forget(endpoint)
    finally:
        if asking is not None:
            _change(
                endpoint,
                lambda kept: replace(kept, asking=tuple(process for process in kept.asking if process != asking)),
            )


def _own_process() -> Process:
    return Process(os.getpid(), started(os.getpid()) or "")


def _begun(kept: KeptAvailability, asking: AskedServer | None) -> KeptAvailability:
    going_on = tuple(other for other in kept.asking if other.goes_on)
    return replace(
        kept.with_(kept.availability.probed(time.time())), asking=going_on if asking is None else (*going_on, asking)
    )


def _failed(kept: KeptAvailability, error: NetworkError) -> KeptAvailability:
    why = "it can't be reached" if isinstance(error, UnreachableError) else "it does not answer as it should"
    return kept.with_(kept.availability.failed(why, time.time(), error.retry_after_s))


def _change(endpoint: Endpoint, change: Callable[[KeptAvailability], KeptAvailability]) -> None:
    """Replaces what is kept of an endpoint, as the only process that does so now."""
    from llmctl.files.lock import locked

    with suppress(OSError, ResourceError), locked(file().with_suffix(".lock"), waiting=_impatient()):
        kept = _read()
        kept[_key(endpoint)] = change(kept.get(_key(endpoint), NOTHING))
        atomic.write_json(file(), {key: asdict(each) for key, each in kept.items() if each != NOTHING})


def _impatient() -> Callable[[], None]:
    looks = iter(range(MOST_LOOKS))

    def waiting() -> None:
        if next(looks, None) is None:
            raise ResourceError(f"{file()} is locked by another process")

    return waiting


def _read() -> dict[str, KeptAvailability]:
    return atomic.read_json(file(), LIMIT_BYTES, dict[str, KeptAvailability]) or {}


def file() -> Path:
    return paths.state_dir() / "endpoints.json"


def _key(endpoint: Endpoint) -> str:
    """Another address under the same name is another server."""
    return f"{endpoint.name} {endpoint.url}"
