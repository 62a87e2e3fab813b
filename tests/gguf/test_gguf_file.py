"""What the test writer writes is what llama.cpp takes for a model, and what our reader reads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from llmctl.gguf.header import read_file
from llmctl.gguf.quant import WEIGHT_TYPE_BY_NAME
from llmctl.gguf.shape import shape, weights
from tests.fakes.gguf_file import BLOCKS, SHAPES, Fill, TensorSpec, model_shape, tensor_bytes, write, write_model

CHILD = """
import json, math, sys
from llama_cpp import Llama, llama_get_logits_ith
model = Llama(sys.argv[1], n_ctx=128, n_threads=1, verbose=False)
answer = model.create_chat_completion([{"role": "user", "content": "Hi"}], max_tokens=3, temperature=0.0)
logits = llama_get_logits_ith(model.ctx, -1)[: model.n_vocab()]
print(json.dumps({"finite": all(map(math.isfinite, logits)), "distinct": len(set(logits)), "usage": answer["usage"]}))
"""


def test_llama_cpp_runs_a_written_model(tmp_path: Path) -> None:
    path = write_model(tmp_path / "tiny.gguf", model_shape("tiny"))
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["finite"]
    assert answer["distinct"] > model_shape("tiny").n_vocab / 2, "weights that make a difference"
    assert answer["usage"]["prompt_tokens"] > 3
    assert 1 <= answer["usage"]["completion_tokens"] <= 3


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_reads_back(name: str, tmp_path: Path) -> None:
    wanted = model_shape(name)
    path = write_model(tmp_path / "m.gguf", wanted, fill=Fill.SPARSE)
    assert path.stat().st_blocks * 512 < 16 << 20, "a hole, not gigabytes"
    header = read_file(path)
    parsed = shape(header)
    assert (parsed.n_layer, parsed.n_embd, parsed.n_head, parsed.n_ff) == (
        wanted.n_layer,
        wanted.n_embd,
        wanted.n_head,
        wanted.n_ff,
    )
    assert (parsed.n_vocab, parsed.context_train) == (wanted.n_vocab, wanted.context)
    assert parsed.kv_width == wanted.n_layer * wanted.n_head_kv * 2 * (wanted.n_embd // wanted.n_head)
    assert (weights(header).embedding_bytes == 0) == wanted.tied


@pytest.mark.parametrize("type", BLOCKS)
def test_block_sizes_are_written_as_read(type: str, tmp_path: Path) -> None:
    tensor = TensorSpec("t", (512, 3), type)
    header = read_file(write(tmp_path / "m.gguf", {"general.architecture": "x"}, [tensor], fill=Fill.RANDOM))
    assert header.tensors[0].nbytes == tensor_bytes(tensor)
    assert WEIGHT_TYPE_BY_NAME[type].block_bytes == BLOCKS[type][2]
