"""Drafted tokens on and off in one engine, alternating: how much faster, and where greedy answers come out otherwise.

    python tests/bench/speculation.py FILE.gguf [--pairs 5] [--tokens 1100] [--threads 2] [--flash] [--only NAME]

Prompts of two kinds: a text to be repeated with a word changed, and ordinary chat. For each pair both rates are
printed, as the engine counts them, with how many tokens were drafted and came; then the median of the ratios. Rows that
are computed together are rounded in another way than one by one, so a greedy answer may go on otherwise where two
tokens are nearly as likely. That is counted: the first token that differs, and how much likelier the plain answer took
its own to be, in nats.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median
from typing import Any

import requests
from msgspec.structs import replace

from llmctl.engine.llama_cpp.start import start
from llmctl.types.endpoint import Address
from tests.fakes.fits import fit_for

PEOPLE = ("Anna", "Karim", "Lucy", "Pavel", "Ines", "Tom", "Mei")
DEEDS = ("sold old books", "repaired clocks", "taught children to swim", "baked bread for the market", "painted boats")
PLACES = ("in a village by the sea", "near the station", "behind the church", "on the other side of the river")
TIMES = (
    "before the war",
    "every Sunday",
    "until the shop was closed",
    "for eleven years",
    "in the long winter",
    "once",
)
SENTENCES = [
    f"{PEOPLE[at % 7]} {DEEDS[at % 5]} {PLACES[at % 4]} {TIMES[at % 6]}, and number {at + 1} of the letters tells why."
    for at in range(44)
]
TEXT = " ".join(SENTENCES)
REPEAT = f"Repeat this text word for word, but write postcards for letters:\n\n{TEXT}"
# "forced" has a grammar that allows nothing but the text with the word changed: small models lose the thread.
PROMPTS: dict[str, tuple[str, dict[str, Any]]] = {
    "repeat": (REPEAT, {}),
    "forced": (REPEAT, {"grammar": f'root ::= "{TEXT.replace("letters", "postcards")}"'}),
    "chat": ("Tell me how bread has been made through the ages.", {}),
    "list": ("Name ten capitals of Europe with one sentence on each.", {}),
    "letter": ("Write to my landlord: the heating has to be repaired.", {}),
}


def answered(address: Address, name: str, tokens: int, **fields: Any) -> dict[str, Any]:
    prompt, own = PROMPTS[name]
    body = {"messages": [{"role": "user", "content": prompt}], "temperature": 0, "max_tokens": tokens, **own, **fields}
    headers = {"Authorization": f"Bearer {address.token}"}
    answer = requests.post(f"{address.url}/chat/completions", json=body, headers=headers, timeout=600)
    answer.raise_for_status()
    read: dict[str, Any] = answer.json()
    return read


def rate(answer: dict[str, Any]) -> float:
    timings = answer["timings"]
    return float(1000 * timings["predicted_n"] / timings["predicted_ms"])


def compared(address: Address, name: str, tokens: int, pairs: int) -> None:
    ratios = []
    for pair in range(pairs):
        order = (False, True) if pair % 2 else (True, False)
        made = {drafts: answered(address, name, tokens, speculate=drafts) for drafts in order}
        ratios.append(rate(made[True]) / rate(made[False]))
        timings, counts = (
            made[True]["timings"],
            [made[drafts]["usage"]["completion_tokens"] for drafts in (False, True)],
        )
        print(
            f"{name}: {rate(made[False]):.1f} tok/s plain ({counts[0]} tokens), {rate(made[True]):.1f} drafted "
            f"({counts[1]} tokens, {timings['draft_n_accepted']} of {timings['draft_n']} came): x{ratios[-1]:.3f}"
        )
    print(f"{name}: median x{median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")


def difference(address: Address, name: str, tokens: int) -> tuple[int, float] | None:
    """The number of the first token that differs, and how much likelier the plain one was, in nats; None if none does,
    infinity where the other was none of the plain answer's twenty likeliest."""
    asked: dict[str, Any] = {"logprobs": True, "top_logprobs": 20}
    made = [answered(address, name, tokens, speculate=drafts, **asked) for drafts in (False, True)]
    plain, drafted = (answer["choices"][0]["logprobs"]["content"] for answer in made)
    for at, (ours, theirs) in enumerate(zip(plain, drafted, strict=False)):
        if ours["bytes"] != theirs["bytes"]:
            others = [top["logprob"] for top in ours["top_logprobs"] if top["bytes"] == theirs["bytes"]]
            return at, ours["logprob"] - others[0] if others else float("inf")
    return None


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("file", type=Path)
    options.add_argument("--pairs", type=int, default=5)
    options.add_argument("--tokens", type=int, default=1100)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--only", choices=PROMPTS, action="append", help="these prompts, not all")
    options.add_argument("--flash", action="store_true", help="with flash attention")
    given = options.parse_args()
    fit = fit_for(given.file, context=4096, threads=given.threads)
    fit = replace(fit, configuration=replace(fit.configuration, flash_attention=given.flash))
    with start(fit) as engine:
        answered(engine.address, "chat", 32)
        for name in given.only or PROMPTS:
            compared(engine.address, name, given.tokens, given.pairs)
        differences = {name: difference(engine.address, name, given.tokens) for name in given.only or PROMPTS}
    for name, differs in differences.items():
        words = (
            "the same text" if differs is None else f"differs from token {differs[0]} on, {differs[1]:.3f} nats apart"
        )
        print(f"{name}: {words}")


if __name__ == "__main__":
    main()
