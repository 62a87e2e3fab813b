"""What the commands of the pages find: a few files, a repository of git, and a hub where the models that pages name are
tiny ones.

    with page_home(home, folder) as environment: ...
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.fakes.chat_server import DONE, ChatServer, event, stream
from tests.fakes.hub import FakeHub
from tests.fakes.scripted_model import write_scripted

REPO = "maker/tiny-GGUF"
ANSWER = ("The", " answer", " is", " 42", ".")
MODELS = {  # name, quantization and file; the last is what comes by pip elsewhere, and what setup would fetch
    "qwen3.5-4b": ("Qwen3.5 4B", "Q4_K_M", "qwen3.5-4b-Q4_K_M.gguf"),
    "qwen3.5-9b": ("Qwen3.5 9B", "Q4_K_M", "qwen3.5-9b-Q4_K_M.gguf"),
    "smollm2-135m-instruct": ("SmolLM2 135M Instruct", "Q4_1", "SmolLM2-135M-Instruct.Q4_1.gguf"),
}
ENTRY = """
[[model]]
id = "{id}"
name = "{name}"
context = 4096
tasks = ["chat"]
[model.sources]
facts = "https://model.example/card"
shape = "https://model.example/config.json"
[model.shape]
architecture = "llama"
n_layer = 1
n_embd = 256
n_head = 4
n_vocab = 400
kv = [{{ layers = 1, heads = 4, head_dim = 64 }}]
[[model.file]]
quant = "{quant}"
repo = "{repo}"
file = "{file}"
bytes = {bytes}
tensor_bytes = {bytes}
types = {{ F32 = {bytes} }}
"""
TEXTS = {
    "notes.md": "# Trip\n\nThe train to Oslo leaves at nine. Bring the blue tent.\n",
    "question.txt": "Which is larger, 3/4 or 0.7?\n",
    "passages.jsonl": '{"id": "a", "text": "the tent is blue"}\n{"id": "b", "text": "the train leaves at nine"}\n',
    "person.json": json.dumps({"type": "object", "properties": {"name": {"type": "string"}}}),
}


@contextmanager
def page_home(home: Path, folder: Path) -> Iterator[dict[str, str]]:
    """Fills ``home``; ``folder`` gets the models. Yields variables for the commands: the hub, and in SERVER the address
    of a server that answers with its model ``under-test``."""
    for name, text in TEXTS.items():
        (home / name).write_text(text)
    if shutil.which("git"):
        _repository(home)
    files = {file: write_scripted(folder / file, ANSWER) for *_, file in MODELS.values()}
    entries = home / "config/llmctl/models"
    entries.mkdir(parents=True)
    text = "".join(
        ENTRY.format(id=id, name=name, repo=REPO, quant=quant, file=file, bytes=files[file].stat().st_size)
        for id, (name, quant, file) in MODELS.items()
    )
    (entries / "tiny.toml").write_text(text)
    with FakeHub({REPO: files}) as hub, ChatServer(stream(event("Yes."), DONE)) as server:
        yield {"HF_ENDPOINT": hub.url, "SERVER": server.url}


def _repository(home: Path) -> None:
    """One commit, and a change that is not committed yet."""
    git = ["git", "-c", "user.name=N", "-c", "user.email=n@example.org", "-C", str(home)]
    (home / "code.py").write_text("print('one')\n")
    for words in (["init", "--quiet"], ["add", "code.py"], ["commit", "--quiet", "--message", "One"]):
        subprocess.run([*git, *words], check=True, capture_output=True, timeout=30)
    (home / "code.py").write_text("print('two')\n")
