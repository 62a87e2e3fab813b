"""Which program answers at an address, and how much context it gives, by its list of models and the headers of that.

What each of them shows is from its source: vLLM and SGLang name themselves as the owner, llama-server as llamacpp,
ollama the library that it fetches from, LM Studio the organization, Text Generation Inference the model itself; LiteLLM
has headers of its own, Ray Serve a field for each model, and llm-d is vLLM behind an Envoy gateway.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

LLMCTL, LLAMA_SERVER, OLLAMA, LITELLM = "llmctl", "llama-server", "ollama", "LiteLLM"
VLLM, SGLANG, LLM_D, RAY_SERVE = "vLLM", "SGLang", "vLLM behind an Envoy gateway, as llm-d has it", "Ray Serve"
LM_STUDIO, TGI, LLAMA_CPP_PYTHON = "LM Studio", "Text Generation Inference", "llama-cpp-python's server"
BY_OWNER: Mapping[str, str] = {
    "llmctl": LLMCTL,
    "vllm": VLLM,
    "sglang": SGLANG,
    "llamacpp": LLAMA_SERVER,
    "library": OLLAMA,
    "organization_owner": LM_STUDIO,
    "me": LLAMA_CPP_PYTHON,
}
ADVICE: Mapping[str, str] = {
    OLLAMA: "it cuts a prompt longer than its context without a word: OLLAMA_CONTEXT_LENGTH there, --context here",
    LITELLM: "the servers behind it read prompts too: --readers says who",
}
CONTEXTS = ("max_model_len", "context_length", "loaded_context_length", "max_request_context_length", "context_window")
MOST_CONTEXT = 1 << 31


class Software(Struct, frozen=True):
    """``advice`` is what one should know of it, None where nothing is to be said."""

    name: str
    advice: str | None = None


def software_of(headers: Mapping[str, str], document: object) -> Software | None:
    """The program that has answered with this list of models; None for one that isn't known."""
    name = _name({key.lower(): value for key, value in headers.items()}, _entry(document, None))
    return None if name is None else Software(name, ADVICE.get(name))


def context_of(document: object, model: str) -> int | None:
    """Tokens of context that the list of models gives for ``model``, None where it doesn't say."""
    entry = _entry(document, model)
    more = entry.get("meta")
    fields = {**(more if isinstance(more, dict) else {}), **entry}
    counts = (fields.get(name) for name in (*CONTEXTS, "n_ctx"))
    return next((count for count in counts if isinstance(count, int) and 0 < count < MOST_CONTEXT), None)


def _name(headers: Mapping[str, str], entry: Mapping[str, Any]) -> str | None:
    owner = entry.get("owned_by")
    if any(name.startswith("x-litellm-") for name in headers):
        return LITELLM
    if "rayllm_metadata" in entry:
        return RAY_SERVE
    if owner == "vllm" and "envoy" in headers.get("server", "").lower():
        return LLM_D
    if headers.get("server", "").lower().startswith("llama.cpp"):
        return LLAMA_SERVER
    if owner is not None and owner == entry.get("id") and not entry.get("created"):
        return TGI
    return BY_OWNER.get(owner) if isinstance(owner, str) else None


def _entry(document: object, model: str | None) -> Mapping[str, Any]:
    """The list's entry for ``model``, the first one for None; nothing where there is none."""
    listed = document.get("data") if isinstance(document, dict) else None
    entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    return next((entry for entry in entries if model is None or entry.get("id") == model), {})
