"""Records a machine into a folder. Copied to tests/fixtures/machines, it becomes a regression test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from llmctl.checks import Surroundings, checks
from llmctl.engine.devices.machine import this_machine
from llmctl.engine.install import installed
from llmctl.errors import ResourceError, UsageError
from llmctl.host import Host
from llmctl.probe.recorded.recording import DOCUMENT, Recorder, recorded
from llmctl.struct import asdict

EXPECTED = "expected.json"
STORE = Path("/models")  # what a recorded machine's store is called; the real one's path may name a person
SURROUNDINGS = Surroundings(store=STORE, store_writable=True, config_file=Path("/config.toml"))


def capture(folder: Path, store: Path) -> None:
    """Records the machine we are on, scrubbed, with the document that the recording gives.

    Raises UsageError if ``folder`` holds a recording, ResourceError if it can't be written.
    """
    if (folder / DOCUMENT).exists():
        raise UsageError(f"{folder} holds a recorded machine", hint="llmctl doctor --capture NEW_DIRECTORY")
    recorder = Recorder()
    this_machine(recorder, store=store)
    installed(recorder)
    try:
        recorder.write(folder)
        (folder / EXPECTED).write_text(written(document(recorded(folder))), encoding="utf-8")
    except OSError as error:
        raise ResourceError(
            f"{folder} can't be written: {error.strerror or error}", hint="llmctl doctor --capture NEW_DIRECTORY"
        ) from error


def document(host: Host) -> dict[str, Any]:
    """Doctor's report of a recorded machine whose settings and store are in order, as JSON values without nulls."""
    machine, engines = this_machine(host, store=STORE)
    findings = checks(machine, engines, replace(SURROUNDINGS, installed=installed(host)))
    report = {"machine": asdict(machine), "engines": list(map(asdict, engines)), "checks": list(map(asdict, findings))}
    plain: dict[str, Any] = _without_nulls(json.loads(json.dumps(report)))
    return plain


def _without_nulls(value: Any) -> Any:
    """``value`` without nulls in its tables and lists of tables."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def written(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"
