"""Describes a GGUF file that the catalogue doesn't know as a model, by its header alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import prod
from pathlib import Path

from llmctl.errors import IntegrityError, UnsupportedFileError
from llmctl.gguf.kind import CHOOSE_HINT, WITHOUT_TOKENIZER, require_language_model, tasks
from llmctl.gguf.quant import quant_label
from llmctl.gguf.shape import EXPERTS, shape, weights
from llmctl.gguf.shards import read_model
from llmctl.gguf.sound import require_sound
from llmctl.printable import printable
from llmctl.thoughts.marks import table
from llmctl.types.header import Header, Tensor
from llmctl.types.model import Artifact, Candidate, Model, Shape, Source, SourceKind, Thinking

MAX_TEXT = 100  # characters of a file's own text that are shown to a person
SWITCH = "enable_thinking"
OTHER_SWITCH = re.compile(
    r"""\bif\b[^%]*(?<![.\w'"])thinking(?![\w'"])"""
)  # DeepSeek V3.1, Granite 3.2: off until asked


def from_file(path: Path) -> Candidate:
    """The file at ``path`` as a candidate. It may hold its header only: tensor data are never read.

    The parts of a split file are found beside the one that is named. Raises NotFoundError, AccessError, ResourceError,
    IntegrityError (damaged, or its figures contradict each other) or UnsupportedFileError (sound, and not a language
    model that can be run here), each naming the file.
    """
    path = path.absolute()
    parts, header = read_model(path)
    source = Source(SourceKind.LOCAL, None, str(parts[0]), header.data_offset + header.tensor_bytes)
    return from_header(header, source, id=printable(path.stem), stated_at=str(path), path=parts[0])


def require_runnable(path: Path) -> None:
    """Raises what ``from_file`` raises, and IntegrityError where a part is cut off, UnsupportedFileError where there is
    no vocabulary: a plan is content with a header, the engine needs the whole file and words."""
    _, header = read_model(path, whole=True)
    if header.metadata.get("tokenizer.ggml.model") in WITHOUT_TOKENIZER:
        raise UnsupportedFileError(
            f"{path} has no vocabulary, so that it can neither read nor write text", hint=CHOOSE_HINT
        )


def from_header(header: Header, source: Source, *, id: str, stated_at: str, path: Path | None = None) -> Candidate:
    """The candidate that a header describes; ``source`` is the model's (first) file, wherever that is.

    ``stated_at`` is where a person could look it up. Raises IntegrityError for what contradicts itself and
    UnsupportedFileError for what is not a language model that can be run here, each naming the file.
    """
    try:
        require_language_model(header)
        figures, by_role, quant = shape(header), weights(header), quant_label(header)
        require_sound(header)
    except (IntegrityError, UnsupportedFileError) as error:
        where = source.file if source.repo is None else f"{source.repo}/{source.file}"
        raise type(error)(f"{where} {error.message}", hint=error.hint) from error
    parameters = sum(prod(tensor.shape) for tensor in header.tensors)
    model = Model(
        id=id,
        name=_text(header, "general.name") or id,
        publisher=_text(header, "general.organization"),
        licence=licence(header),
        base_model=_text(header, "general.base_model.0.name"),
        shape=figures,
        artifacts=(Artifact(quant, source, by_role),),
        parameters=parameters or None,
        active_parameters=_active(header.tensors, parameters, figures),
        tasks=tasks(header),
        thinking=_thinking(header.chat_template or ""),
        sources={"facts": stated_at, "shape": stated_at},
    )
    return Candidate(model, model.artifacts[0], path)


def licence(header: Header) -> str | None:
    """The licence that a file states, of whatever kind its model is."""
    return _text(header, "general.license")


def _text(header: Header, key: str) -> str | None:
    """A text of the metadata, made printable and cut to MAX_TEXT characters; None if there is none."""
    value = header.metadata.get(key)
    if not isinstance(value, str):
        return None
    return printable(value, MAX_TEXT) or None


def _active(tensors: Sequence[Tensor], parameters: int, figures: Shape) -> int | None:
    """Parameters that are used for one token; None where that is all of them."""
    if not figures.n_expert:
        return None
    routed = sum(prod(tensor.shape) for tensor in tensors if EXPERTS.search(tensor.name))
    return parameters - routed + routed * figures.n_expert_used // figures.n_expert


def _thinking(template: str) -> Thinking:
    """Whether the model thinks, by its chat template: by a switch that can be set, or by marks of thoughts."""
    if SWITCH in template:
        return Thinking.DEFAULT
    if not any(row.stands_in(template) for row in table()):
        return Thinking.NEVER
    return Thinking.ASKED if OTHER_SWITCH.search(template) else Thinking.ALWAYS
