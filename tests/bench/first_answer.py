"""How long the first answer takes on a bare machine: from `pip install` on, in fresh environments with a home each.

    python tests/bench/first_answer.py kept        with a wheel of the engine that pip has kept
    python tests/bench/first_answer.py compiled    with llama.cpp compiled: some 5 minutes on two idle cores
    python tests/bench/first_answer.py             both

Prints the seconds of installing and of the answer. Where the model hub can't be reached, the starter answers.
The wheel is the one in the cache of the pip that runs this. Nothing is left behind.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENGINE = "llama-cpp-python"
QUESTION = "Why is the sky blue?"
WAYS = ("kept", "compiled")


def seconds(words: Sequence[str | Path], environment: Mapping[str, str]) -> float:
    """How long a command takes. Ends the program with what it has said where it fails."""
    begun_s = time.perf_counter()
    done = subprocess.run(
        [str(word) for word in words],
        cwd=tempfile.gettempdir(),
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, words))}\nended with {done.returncode}\n{done.stdout}")
    return time.perf_counter() - begun_s


def alone(home: Path) -> dict[str, str]:
    """This environment with another home, and with none of llmctl's or of the desktop's variables."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LLMCTL_", "XDG_", "HF_"))}
    return {**kept, "HOME": str(home)}


def measured(way: str, home: Path) -> tuple[float, float]:
    """Seconds of installing, and of the first answer by what was installed."""
    environment, python = alone(home), home / "venv" / "bin" / "python"
    seconds([sys.executable, "-m", "venv", home / "venv"], environment)
    options: list[str | Path] = ["--no-cache-dir", "--no-binary", ENGINE]
    if way == "kept":
        keeping: list[str | Path] = [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--no-deps",
            "--wheel-dir",
            home / "kept",
            ENGINE,
        ]
        seconds(keeping, {**os.environ})
        options = ["--find-links", home / "kept"]
    installing_s = seconds([python, "-m", "pip", "install", *options, ROOT], environment)
    llmctl = python.with_name("llmctl")
    return installing_s, seconds([llmctl, "run", "--yes", QUESTION], environment)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("way", nargs="?", choices=WAYS, help="both without one")
    asked = parser.parse_args().way
    for way in WAYS if asked is None else (asked,):
        with tempfile.TemporaryDirectory(prefix="llmctl-first-") as home:
            installing_s, answer_s = measured(way, Path(home))
        total_min = (installing_s + answer_s) / 60
        print(
            f"{way}: {installing_s:.0f} s to install, {answer_s:.0f} s to the answer, {total_min:.1f} min", flush=True
        )


if __name__ == "__main__":
    main()
