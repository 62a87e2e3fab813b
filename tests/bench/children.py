"""Measurements in a process of their own: engines that abort, and memory that has to be given back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

CHILD_S = 900.0


def asked(script: str, question: Mapping[str, Any]) -> Any:
    """What ``script --child`` writes as its last line of JSON, with ``question`` on its stdin."""
    done = subprocess.run(
        [sys.executable, script, "--child"],
        input=json.dumps(question),
        capture_output=True,
        text=True,
        timeout=CHILD_S,
        check=False,
        env={**os.environ, "GGML_NO_BACKTRACE": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    if done.returncode:
        raise SystemExit(f"{question} ended with {done.returncode}: {done.stderr[-600:]}")
    return json.loads(done.stdout.splitlines()[-1])
