"""`llmctl run` beside a bare llama-cpp-python script: the same file, threads, prompt and length, alternating.

    python tests/bench/run_against_bare.py FILE.gguf [--pairs 5] [--tokens 200]

Both are timed from outside, from the start of their process: the first byte of the answer on stdout is the first
token, and the time from there to the last byte is decoding. At temperature 0 both write the same text, which is
checked. Prints every pair, then the median of the ratios and of the differences with their spread.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from statistics import median

BARE = """
import sys
from llama_cpp import Llama
llama = Llama(sys.argv[1], n_ctx=int(sys.argv[5]), n_threads=int(sys.argv[3]), n_threads_batch=int(sys.argv[3]),
              verbose=False)
messages = [{"role": "user", "content": sys.argv[2]}]
for chunk in llama.create_chat_completion(messages, stream=True, max_tokens=int(sys.argv[4]), temperature=0):
    text = chunk["choices"][0]["delta"].get("content")
    if text:
        sys.stdout.write(text)
        sys.stdout.flush()
"""
PROMPT = "Why is the sky blue?"


def timed(argv: list[str]) -> tuple[str, float, float]:
    """Text, seconds from process start to the first byte, seconds from there to the last byte."""
    begun = time.perf_counter()
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    assert process.stdout is not None
    heard: list[tuple[float, bytes]] = []
    while data := os.read(process.stdout.fileno(), 1 << 16):
        heard.append((time.perf_counter(), data))
    process.wait()
    if process.returncode:
        raise SystemExit(f"{argv[:4]} ended with {process.returncode}")
    if heard[-1][1] == b"\n":  # llmctl's final newline is not a token
        heard.pop()
    text = b"".join(data for _, data in heard)
    return text.decode().strip(), heard[0][0] - begun, heard[-1][0] - heard[0][0]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("file")
    options.add_argument("--pairs", type=int, default=5)
    options.add_argument("--tokens", type=int, default=200)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--context", type=int, default=4096)
    given = options.parse_args()
    common = [given.file, PROMPT, str(given.threads), str(given.tokens), str(given.context)]
    bare = [sys.executable, "-c", BARE, *common]
    ours = [sys.executable, "-m", "llmctl", "run", "--quiet", "--local", "-m", given.file, "--temperature", "0"]
    ours += ["-t", str(given.threads), "-n", str(given.tokens), "--context", str(given.context), PROMPT]
    timed(bare), timed(ours)  # the disk cache is warm from here on
    rates, later = [], []
    for pair in range(1, given.pairs + 1):
        order = [bare, ours] if pair % 2 else [ours, bare]
        results = {id(argv): timed(argv) for argv in order}
        (bare_text, bare_first, bare_decode), (text, first, decode) = results[id(bare)], results[id(ours)]
        same = "same text" if text == bare_text else "DIFFERENT TEXT"
        rates.append(bare_decode / decode)
        later.append(first - bare_first)
        print(
            f"pair {pair}: bare first {bare_first:.3f} s, decode {bare_decode:.3f} s; "
            f"llmctl first {first:.3f} s, decode {decode:.3f} s; rate x{rates[-1]:.3f}, {later[-1]:+.3f} s, {same}"
        )
    print(f"decode rate against bare: median x{median(rates):.3f} ({min(rates):.3f} to {max(rates):.3f})")
    print(f"first token against bare: median {median(later):+.3f} s ({min(later):+.3f} to {max(later):+.3f})")


if __name__ == "__main__":
    main()
