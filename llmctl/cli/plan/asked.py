"""What was asked of ``llmctl plan``: whether it makes sense, what of it has no effect, and what to ask next."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmctl.errors import UsageError
from llmctl.shell import command
from llmctl.types.plan import F16

if TYPE_CHECKING:
    from llmctl.types.machine import Machine
    from llmctl.types.plan import Fit, Want


def check_language(given: str) -> None:
    """By the English name of a language its code is meant."""
    from llmctl.workspace.names import languages

    if given.isascii() and given.isalpha() and len(given) in (2, 3):
        return
    code = next((code for code, name in languages().items() if name == given.strip().casefold()), "it")
    raise UsageError(
        f"--lang is {given!r}, it must be a code of two or three letters", hint=f"llmctl plan --lang {code}"
    )


def check_cache(kv_type: str | None, flash_attention: bool | None) -> None:
    if kv_type not in (None, F16) and flash_attention is False:
        raise UsageError(
            f"--kv-type {kv_type} and --no-flash-attention exclude each other: "
            "llama.cpp keeps a quantized cache for flash attention only",
            hint=command("llmctl", "plan", "--kv-type", kv_type),
        )


def check_browser(*, browser: bool, gpu: str | None, vram: str | None, gpu_layers: int | None) -> None:
    given = {"--gpu": gpu, "--vram": vram, "--gpu-layers": gpu_layers or None}
    if browser and (names := [name for name, value in given.items() if value is not None]):
        raise UsageError(
            f"--browser and {names[0]} exclude each other: how fast a tab is on a GPU was not measured",
            hint="llmctl plan --browser",
        )


def check_picture(file: Path) -> None:
    if file.suffix.lower() != ".svg":
        raise UsageError(
            f"--plot writes FILE.svg, not {file.name!r}",
            hint=command("llmctl", "plan", "--plot", file.with_suffix(".svg")),
        )
    if not file.absolute().parent.is_dir():
        raise UsageError(f"--plot: there is no folder {file.absolute().parent}")


def without_effect(choice: Fit, machine: Machine, wanted: Want) -> Iterator[str]:
    """What was asked for and can't be had, where the engine takes less without a word."""
    layers, threads, most = wanted.gpu_layers or 0, wanted.threads or 0, machine.cpu.logical_cores
    if layers and not choice.gpu_layers:
        yield f"--gpu-layers {layers} has no effect: there is no GPU here that the engine can use"
    elif layers > choice.gpu_layers:
        name = choice.candidate.model.name
        yield f"--gpu-layers {layers}: {name} has {choice.gpu_layers}, all of them are on the GPU"
    if threads > most > 0:
        yield f"--threads {threads} is more than the {most} that the processor runs at once, which makes it slower"


def next_after(model: str | None, wanted: Want, endpoints: tuple[Any, ...]) -> str:
    if model is not None:
        return "llmctl plan   shows what fits here"
    limits = {
        "--lang": wanted.language,
        "--licence": wanted.licence,
        "--open": wanted.openness,
        "--installed": wanted.installed,
    }
    if given := [option for option, value in limits.items() if value]:
        return f"llmctl plan --task {wanted.task}   is without {', '.join(given)}"
    return "llmctl run …   lets your server answer" if endpoints else "llmctl endpoint add NAME URL --model MODEL"


def size(option: str, text: str) -> int:
    from llmctl.units import parse_size

    try:
        return parse_size(text)
    except ValueError as error:
        raise UsageError(f"{option} is {text!r}, it must be a size like 5GB or 800MB") from error


def memory_size(option: str, text: str | None) -> int | None:
    """As memory is sold: 16GB is 16 GiB."""
    if text is None:
        return None
    size_bytes = size(option, text)
    return size_bytes if "i" in text.lower() else size(option, text.upper().rstrip("B") + "iB")
