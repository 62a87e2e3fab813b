"""Names of products as drivers, kernels and people write them, in a form that can be compared as a whole."""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct

BRANDS: Mapping[str, str] = {
    "nvidia": "NVIDIA",
    "geforce": "NVIDIA",
    "quadro": "NVIDIA",
    "tesla": "NVIDIA",
    "amd": "AMD",
    "radeon": "AMD",
    "instinct": "AMD",
    "ryzen": "AMD",
    "intel": "Intel",
    "apple": "Apple",
}
# What says nothing beside the rest of a name. "Quadro" stays: a Quadro RTX 4000 is not an RTX 4000 Ada.
FILLING = frozenset(
    [
        "nvidia",
        "geforce",
        "tesla",
        "amd",
        "ati",
        "radeon",
        "instinct",
        "intel",
        "qualcomm",
        "oryon",
        "corporation",
        "r",
        "tm",
        "graphics",
        "gpu",
        "cpu",
        "processor",
        "series",
        "generation",
        "edition",
    ]
)


class ProductName(Struct, frozen=True):
    """The parts of a name. ``keys``: the forms to compare, the whole name first, then without brackets, then what is in
    them. ``memory_gib`` of "12GB", ``gpu_cores`` of "(40-core GPU)"; ``slice``: it is a part of a card (MIG)."""

    keys: tuple[str, ...]
    vendor: str | None
    memory_gib: int | None
    gpu_cores: int | None
    slice: bool


def read(name: str) -> ProductName:
    """The parts of a name as a driver, a kernel, a table or a person writes it."""
    text = name.lower().replace("®", " ").replace("™", " ").replace("(r)", " ").replace("(tm)", " ")
    text = re.sub(r"\s(w/|with)\s+radeon.*", "", text)  # AMD's processors name their GPU
    text = re.sub(r"\srev\.? ?[\d.a]+\b", "", text)  # and boards their revision
    cores = re.search(r"\b(\d{1,3})-core gpu\b", text)
    text = re.sub(r"\b\d{1,3}-core gpu\b", " ", text)
    memory = re.search(r"\b(\d{1,3}) ?gi?b\b", text)
    text = re.sub(r"\b\d{1,3} ?gi?b\b", " ", text)
    outside = re.sub(r"[(\[].*?[)\]]", " ", text)
    inside = re.findall(r"[(\[](.*?)[)\]]", text)
    keys = [key(part) for part in (text, outside, *inside)]
    words = re.findall(r"[a-z0-9]+", text)
    brand = next((BRANDS[word] for word in words if word in BRANDS), None)
    return ProductName(
        keys=tuple(dict.fromkeys(text_key for text_key in keys if text_key)),
        vendor=brand,
        memory_gib=int(memory[1]) if memory else None,
        gpu_cores=int(cores[1]) if cores else None,
        slice="mig" in words,
    )


def key(text: str) -> str:
    """What two names of one product have in common: all words that say something, in their order, and joined, because
    people write "rtx3080ti" too."""
    words = (word.replace("mobile", "laptop") for word in re.findall(r"[a-z0-9+]+", text))
    return "".join(word for word in words if word not in FILLING)
