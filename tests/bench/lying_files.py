"""Files that lie or can't run, one of each kind: what ``llmctl plan FILE`` says of them, and how long that takes.

    python tests/bench/lying_files.py

The machine and the engine are asked first, as the first command ever would; then each file is planned in a process of
its own. Prints a table: kind, seconds, exit code, sentence. Ends with 1 if one that should be refused is planned, or
the other way round, or if one takes longer than LIMIT_S.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.cli import test_refused_files as kinds
from tests.fakes import gguf_file
from tests.fakes.command import ran
from tests.fakes.gguf_file import Kind, TensorSpec, Value

LIMIT_S = 1.0
REFUSED = (3, 6)
Written = Callable[[Path], Path]

STATED: Mapping[str, tuple[dict[str, Value | None], str]] = {
    "no epsilon": ({"llama.attention.layer_norm_rms_epsilon": None}, "lacks the norms' epsilon"),
    "rope": ({"llama.rope.dimension_count": 12}, "its rope turns 12"),
    "rope scaling": ({"llama.rope.scaling.type": "spiral"}, "its rope scaling is 'spiral'"),
    "no tokenizer": ({"tokenizer.ggml.model": None}, "it has no tokenizer"),
    "no tokens": ({"tokenizer.ggml.tokens": None}, "its tokenizer has no tokens"),
    "vocabulary size": ({"tokenizer.ggml.tokens": ["a", "b"]}, "its vocabulary has 2 tokens"),
    "embedding": ({"llama.embedding_length": 96}, "its rope turns 16"),
    "no key heads": ({"llama.attention.head_count_kv": 0}, "it has 0 key-value heads"),
    "experts used": ({"llama.expert_count": 4, "llama.expert_used_count": 9}, "it uses 9 experts and has 4"),
    "experts": ({"llama.expert_count": 5000, "llama.expert_used_count": 1}, "it has 5000 experts"),
    "more layers": ({"llama.block_count": 4}, "2 of its 4 layers are missing"),
    "layers for drafting alone": ({"llama.nextn_predict_layers": 2}, "2 of them for drafting"),
    "too many layers": ({"llama.block_count": 513}, "512"),
    "no layers": ({"llama.block_count": None}, "has no llama.block_count"),
    "negative context": ({"llama.context_length": Kind(5, "i", -1)}, "as llama.context_length"),
    "unknown architecture": ({"general.architecture": "oss"}, "is no language model"),
}
"""Figures of a small sound file that are changed -> words of the answer."""
OTHER_FORMATS: Mapping[str, str] = {
    "model.safetensors": "holds weights in the safetensors format",
    "pytorch_model.bin": "is a ZIP archive, as PyTorch saves its models",
    "ggml-base.bin": "is a speech model",
}


def cases() -> Iterator[tuple[str, Written, str, tuple[int, ...]]]:
    """Kind, what writes the file, words that are expected, exit codes that are right."""
    for name, (code, words) in kinds.CASES.items():
        yield name, lambda path, name=name: kinds.unpacked(name, path.parent), words, (code,)  # type: ignore[misc]
    for name, (changed, tensors, words) in kinds.REFUSED.items():
        yield name, _lying(changed, tensors), words, (6,)
    for name, (changed, words) in STATED.items():
        yield name, _lying(changed, kinds.TENSORS), words, REFUSED
    for name, (metadata, tensors, words) in kinds.UNTYPED.items():
        yield f"{name} of no stated kind", _written(metadata, tensors), words, (3,)
    for name, raw in kinds.SOUND_OF_ANOTHER_KIND.items():
        yield name, _raw(name, raw), OTHER_FORMATS[name], (3,)
    for name, raw in kinds.DAMAGED.items():
        yield name, _raw(name, raw), "", (6,)
    yield "vocabulary alone", _written(gguf_file.llama_metadata(kinds.TINY), []), "holds only a vocabulary", (3,)


def _lying(changed: dict[str, Value | None], tensors: list[TensorSpec]) -> Written:
    return lambda path: kinds.lie(path, changed, tensors)


def _written(metadata: dict[str, Any], tensors: list[TensorSpec]) -> Written:
    return lambda path: gguf_file.write(path, metadata, tensors)


def _raw(name: str, raw: bytes) -> Written:
    def write(path: Path) -> Path:
        file = path.with_name(name)
        file.write_bytes(raw)
        return file

    return write


def main() -> int:
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        environment = {"HOME": folder, "XDG_CACHE_HOME": f"{folder}/cache"}
        machine = home / "machine.toml"
        machine.write_text(kinds.MACHINE)
        sound = kinds.lie(home / "sound.gguf", {}, kinds.TENSORS)
        ran(["plan", str(sound), "--machine", str(machine)], environment=environment)
        print("| kind | seconds | exit code | sentence |\n| --- | --- | --- | --- |")
        for number, (name, write, words, codes) in enumerate(cases()):
            file = write(home / f"file-{number}.gguf")
            begin = time.perf_counter()
            done = ran(["plan", str(file), "--machine", str(machine)], environment=environment)
            seconds = time.perf_counter() - begin
            said = (done.stdout + done.stderr).decode()
            sentence = next((line for line in said.splitlines() if words in line), said[:200]).strip()
            good = done.returncode in codes and words in said and seconds <= LIMIT_S
            wrong += [] if good else [name]
            sentence = sentence.replace(folder, "").replace("|", "/")[:150]
            print(f"| {name} | {seconds:.2f} | {done.returncode} | {sentence} |", flush=True)
    print(f"\n{number + 1} kinds; wrong: {', '.join(wrong) or 'none'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
