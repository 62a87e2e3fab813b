"""Ten everyday jobs with llmctl, `llm` and ollama: what is typed, and the seconds from Enter to the first character.

    python tests/bench/daily_jobs.py --table
    python tests/bench/daily_jobs.py FILE.gguf [--llm PATH/TO/llm] [--rounds 5] [--tokens 32]

The first prints the table of docs/daily.md. The second takes the time of every job that needs no server of the user's
and no other program, in alternating rounds: llmctl with a model that has to be loaded, llmctl with one that stayed, and
`llm` (if it is named) against the address of that same engine, so that both wait for the same model. stdout is a pipe:
its first byte is the first character. ollama's column is what its documentation says; it is not run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

OURS = [sys.executable, "-m", "llmctl"]
QUESTION, NEXT = "Why is the sky blue?", "Shorter?"
NONE = "–"


@dataclass(frozen=True)
class Job:
    """``ours``, ``llm`` and ``ollama`` are what is typed; NONE where there is no such command. ``files`` are those that
    stand in the folder. ``is_timed``: it needs nothing but a model of text."""

    name: str
    ours: str
    llm: str
    ollama: str
    is_timed: bool = True


JOBS = (
    Job("ask", f'llmctl run "{QUESTION}"', f'llm "{QUESTION}"', f'ollama run gemma3 "{QUESTION}"'),
    Job(
        "ask about what a command prints",
        "git diff | llmctl run 'Commit message?'",
        "git diff | llm 'Commit message?'",
        "git diff | ollama run gemma3 'Commit message?'",
    ),
    Job(
        "ask about a file",
        "llmctl run -f notes.md 'Sum up'",
        "llm -f notes.md 'Sum up'",
        'ollama run gemma3 "Sum up: $(cat notes.md)"',
    ),
    Job(
        "ask about a PDF",
        "llmctl run -f report.pdf 'Sum up'",
        "llm -f pdf:report.pdf 'Sum up'  (a plugin)",
        NONE,
        is_timed=False,
    ),
    Job("go on", f"llmctl run -c '{NEXT}'", f"llm -c '{NEXT}'", NONE),
    Job("talk", "llmctl chat", "llm chat", "ollama run gemma3", is_timed=False),
    Job(
        "an answer that is JSON",
        "llmctl run --schema person.json 'Ada, 36'",
        "llm --schema person.json 'Ada, 36'",
        "curl localhost:11434/api/chat -d '{… \"format\": {…}}'",
    ),
    Job(
        "a prompt of one's own around a text",
        "llmctl run --template fix < notes.md",
        "llm -t fix < notes.md",
        "ollama create fix -f Modelfile; ollama run fix < notes.md",
    ),
    Job(
        "ask about an image",
        "llmctl run --image cat.png 'What is it?'",
        "llm -a cat.png 'What is it?'",
        "ollama run gemma3 'What is it? ./cat.png'",
        is_timed=False,
    ),
    Job(
        "the model that suits a task",
        "llmctl run --task code 'Reverse a list'",
        "llm -m NAME 'Reverse a list'  (NAME is yours to find)",
        "ollama run NAME 'Reverse a list'  (NAME is yours to find)",
        is_timed=False,
    ),
)


def keystrokes(typed: str) -> str:
    """With Enter, without a remark in brackets behind it."""
    return NONE if typed == NONE else str(len(typed.split("  (")[0]) + 1)


def table() -> str:
    """The rows of docs/daily.md."""
    lines = ["| job | llmctl | keys | `llm` | keys | ollama | keys |", "| --- | --- | --: | --- | --: | --- | --: |"]
    for job in JOBS:
        cells = [job.name]
        for typed in (job.ours, job.llm, job.ollama):
            command, blank, remark = typed.partition("  (")
            shown = command if command == NONE else f"`{command.replace('|', chr(92) + '|')}`"
            cells += [shown + (f" ({remark}" if blank else ""), keystrokes(typed)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def first_character_s(command: str, environment: Mapping[str, str], folder: Path) -> float:
    """From the start of ``command`` in a shell to the first byte of its stdout. Raises RuntimeError without one."""
    begun = time.perf_counter()
    with subprocess.Popen(
        ["bash", "-c", command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder,
        env={**os.environ, **environment},
    ) as process:
        assert process.stdout is not None
        first = process.stdout.read(1)
        took = time.perf_counter() - begun
        _, error = process.communicate()
    if not first:
        raise RuntimeError(f"{command}: {error.decode(errors='replace')}")
    return took


def ours(job: Job, model: Path, tokens: int, *options: str) -> str:
    """The job's command with the model that is to answer it, so that all wait for the same one."""
    run = shlex.join([*OURS, "run", "-m", str(model), "-n", str(tokens), "-q", *options])
    return job.ours.replace("llmctl run", run)


def theirs(job: Job, llm: str, tokens: int) -> str:
    return job.llm.replace("llm ", f"{shlex.quote(llm)} prompt -m warm -o max_tokens {tokens} ", 1)


def write_notes(folder: Path, number: int) -> None:
    """Another text each time, from its first word on: nobody is to find in the engine what the one before has read."""
    (folder / "notes.md").write_text(f"{number}. " + "The plums ripen in August, the pears in September. " * 20)


def write_files(folder: Path, environment: Mapping[str, str]) -> None:
    write_notes(folder, 0)
    schema = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}}
    (folder / "person.json").write_text(json.dumps(schema))
    templates = Path(environment["XDG_CONFIG_HOME"]) / "llmctl" / "templates"
    templates.mkdir(parents=True)
    (templates / "fix.md").write_text("Correct the spelling: {{input}}")
    (folder / "llm" / "templates").mkdir(parents=True)
    (folder / "llm" / "templates" / "fix.yaml").write_text("prompt: 'Correct the spelling: $input'\n")
    for command in (["init", "-q"], ["add", "-N", "notes.md"]):
        subprocess.run(["git", *command], cwd=folder, check=True)


def name_to_llm(folder: Path, runtime: Path) -> None:
    """Tells `llm` of the engine that stayed, as it has a user do that: in two files of its own folder."""
    (entry,) = (json.loads(file.read_text()) for file in (runtime / "llmctl").rglob("*.json"))
    address = f"http://127.0.0.1:{entry['ready']['port']}/v1"
    lines = ["- model_id: warm", f"  model_name: {json.dumps(entry['model'])}", f"  api_base: {address}"]
    lines += ["  api_key_name: warm", "  supports_schema: true", ""]
    (folder / "llm" / "extra-openai-models.yaml").write_text("\n".join(lines))
    (folder / "llm" / "keys.json").write_text(json.dumps({"warm": entry["token"]}))


def measured(model: Path, llm: str | None, rounds: int, tokens: int) -> Iterator[tuple[str, str, float]]:
    """Job, who did it, seconds to the first character: every round of every timed job."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        environment = {f"XDG_{name}_HOME": str(folder / name.lower()) for name in ("CONFIG", "DATA", "CACHE")}
        environment |= {"XDG_RUNTIME_DIR": str(folder / "run"), "LLM_USER_PATH": str(folder / "llm")}
        environment |= {"LLMCTL_CHAT_HISTORY": "1"}
        write_files(folder, environment)
        stay, numbers = ("--keep-alive", "10m"), itertools.count(1)
        try:
            first_character_s(ours(JOBS[0], model, tokens, *stay), environment, folder)
            if llm is not None:
                name_to_llm(folder, folder / "run")
            for job in [job for job in JOBS if job.is_timed] * rounds:
                commands = {"llmctl, loaded": ours(job, model, tokens, *stay)}
                if llm is not None:
                    commands["llm, loaded"] = theirs(job, llm, tokens)
                commands["llmctl"] = ours(job, model, tokens, "--keep-alive", "0", "--context", "1024")
                for who, command in commands.items():
                    write_notes(folder, next(numbers))
                    yield job.name, who, first_character_s(command, environment, folder)
        finally:
            subprocess.run(
                [*OURS, "stop", "--all"], env={**os.environ, **environment}, capture_output=True, check=False
            )


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("model", type=Path, nargs="?")
    options.add_argument("--table", action="store_true", help="print the table of what is typed, and end")
    options.add_argument("--llm", help="the command of simonw/llm, where it is installed")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--tokens", type=int, default=32)
    given = options.parse_args()
    if given.table or given.model is None:
        print(table())
        return 0
    times: dict[tuple[str, str], list[float]] = {}
    for name, who, took in measured(given.model.absolute(), given.llm, given.rounds, given.tokens):
        times.setdefault((name, who), []).append(took)
        print(f"{name}: {who} {took:.2f} s", flush=True)
    for (name, who), took_s in times.items():
        print(f"{name:40} {who:16} {median(took_s):.2f} s ({min(took_s):.2f} to {max(took_s):.2f})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
