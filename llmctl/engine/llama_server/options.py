"""The options that llama-server is started with: the settings of a plan, and what keeps it private. Pure.

Facts are those of common/arg.cpp and tools/server/ in llama.cpp, as llama-cpp-python 0.3.36 ships it.
"""

from __future__ import annotations

from collections.abc import Iterator

from llmctl.types.plan import Configuration, Fit

# With several clients: a prompt that is read in larger batches stalls the others' streams. 900 tokens of one did so for
# 0.6 s in batches of 128 and 2.1 s in those of 512, on two cores of an AMD EPYC.
SHARED_BATCH = 128

# A base model continues text: without a template of its own, it would be given ChatML.
PLAIN_TEMPLATE = "{% for message in messages %}{{ message.content }}{% if not loop.last %}\n\n{% endif %}{% endfor %}"

PRIVATE = (
    *("--host", "127.0.0.1", "--port", "0"),
    *("--cors-origins", ""),  # else every page that a browser shows may ask
    "--no-webui",
    "--no-slots",  # which show prompts
    "--log-disable",  # which would hold system messages and grammars
    "--offline",
    *("--cache-ram", "0"),  # conversations that are over: llama.cpp#27148 gives them to others
)
AS_PLANNED = (
    "--no-context-shift",  # a prompt that is too long is an error, not cut
    "--no-kv-unified",  # each sequence has its own context
    "--no-warmup",
    "--jinja",
)


def options(fit: Fit, *, has_chat_template: bool) -> list[str]:
    """All but the key's file."""
    configuration = fit.configuration
    template = () if has_chat_template else ("--chat-template", PLAIN_TEMPLATE)
    return [
        *("--model", str(fit.candidate.path), "--alias", fit.candidate.model.id),
        *("--threads", str(fit.threads), "--threads-batch", str(fit.prefill_threads)),
        *_context(configuration),
        *_placement(configuration, places_itself=bool(fit.server and fit.server.gpus)),
        *AS_PLANNED,
        *_speculation(fit),
        *(("--no-mmproj",) if fit.candidate.projector is None else ("--mmproj", str(fit.candidate.projector))),
        *template,
        *PRIVATE,
    ]


def _context(configuration: Configuration) -> Iterator[str]:
    """A context for each sequence; batches that leave nobody waiting."""
    shared = configuration.sequences > 1
    batch = min(configuration.ubatch, SHARED_BATCH) if shared else configuration.ubatch
    yield from ("--ctx-size", str(configuration.context * configuration.sequences))
    yield from ("--parallel", str(configuration.sequences))
    yield from ("--batch-size", str(batch), "--ubatch-size", str(batch))
    yield from ("--cache-type-k", configuration.kv_type, "--cache-type-v", configuration.kv_type)
    yield from ("--flash-attn", "on" if configuration.flash_attention else "off")
    if configuration.swa_full:
        yield "--swa-full"


def _speculation(fit: Fit) -> Iterator[str]:
    """A draft model where one was planned, else the heads for drafting that the file itself has."""
    if fit.draft is not None:
        yield from ("--spec-type", "draft-simple", "--spec-draft-model", str(fit.draft.candidate.path))
        yield from ("--spec-draft-ngl", str(fit.draft.configuration.gpu_layers))
    elif fit.drafts_itself:
        yield from ("--spec-type", "draft-mtp")


def _placement(configuration: Configuration, *, places_itself: bool) -> Iterator[str]:
    """Which layers lie where; the engine's devices are counted as in its own list."""
    if places_itself:
        yield from ("--fit", "on")
    else:
        yield from ("--fit", "off")  # else settings that aren't given are worked out anew
        yield from _layers(configuration)
    if configuration.cpu_expert_layers:
        yield from ("--n-cpu-moe", str(configuration.cpu_expert_layers))
    if not configuration.repack:
        yield "--no-repack"


def _layers(configuration: Configuration) -> Iterator[str]:
    if not configuration.gpu_layers:
        yield from ("--device", "none")
        return
    layers = configuration.layers_per_device
    yield from ("--n-gpu-layers", str(configuration.gpu_layers))
    used = [device for device, count in enumerate(layers) if count]
    if len(used) == 1:  # the others are not woken up
        yield from ("--split-mode", "none", "--main-gpu", str(used[0]))
    elif used:
        yield from ("--tensor-split", ",".join(map(str, layers)))
