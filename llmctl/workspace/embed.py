"""Texts as vectors, on this machine."""

from __future__ import annotations

import base64
import math
from array import array
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from llmctl.errors import EngineError, UsageError
from llmctl.types.listener import Listener
from llmctl.types.model import Embedding
from llmctl.types.plan import Fit
from llmctl.types.role import Role
from llmctl.workspace import encoder
from llmctl.workspace.encoder import EncoderOptions
from llmctl.workspace.texts import GivenText

if TYPE_CHECKING:
    from llmctl.settings import Settings
    from llmctl.types.engine import LoadedEngine

TASK = "embed"
AS_IT_IS, LENGTH_OF_ONE = -1, 2  # the engine's numbers
FLOAT = "f"  # of the array module: single precision


class VectorOptions(Struct, frozen=True):
    """How vectors are made. ``role`` None: nothing is put before a text. ``dimensions`` None: all that the model
    gives. ``normalise``: vectors of length 1."""

    role: Role | None = None
    dimensions: int | None = None
    normalise: bool = True


class Vector(Struct, frozen=True):
    """``tokens`` of the text were read; ``truncated`` where its end was not."""

    id: str | int
    embedding: tuple[float, ...]
    tokens: int
    truncated: bool = False

    @property
    def dimensions(self) -> int:
        return len(self.embedding)


class Embedded(Struct, frozen=True):
    """All of it: by which model, of how many texts and tokens, ``truncated`` of the texts cut."""

    model: str
    quant: str
    dimensions: int
    normalised: bool
    texts: int
    tokens: int
    truncated: int


def vectors(
    listener: Listener,
    settings: Settings,
    texts: Sequence[GivenText],
    options: EncoderOptions,
    shape: VectorOptions | None = None,
) -> Generator[Vector, None, Embedded]:
    """The vector of each text, in their order, as they are made. Closing it gives the engine back.

    Raises UsageError for no text and for what the model can't do, ContextError for a text that is too long, and what
    ``encoder`` raises.
    """
    if not texts:
        raise UsageError("there is no text", hint='llmctl embed "some text"')
    shape = shape or VectorOptions()
    longest = max(len(text.text.encode("utf-8", "replace")) for text in texts)
    fit = encoder.chosen(listener, settings, TASK, options, longest)
    facts = fit.candidate.model.embedding
    _require(fit, facts, shape)
    if shape.role is None and facts is not None and (facts.query or facts.document):
        listener.warn(f"{fit.candidate.model.name} reads texts that say what they are: --as query, --as document")
    count = tokens = truncated = width = 0
    with encoder.lent(listener, settings, fit, insist=options.insist) as engine:
        for vector in of_texts(engine, fit, texts, shape, truncate=options.truncate):
            yield vector
            count, tokens, truncated = count + 1, tokens + vector.tokens, truncated + vector.truncated
            width = vector.dimensions
    model, quant = fit.candidate.model.id, fit.candidate.artifact.quant
    return Embedded(model, quant, width, shape.normalise, count, tokens, truncated)


def of_texts(
    engine: LoadedEngine, fit: Fit, texts: Sequence[GivenText], shape: VectorOptions, *, truncate: bool
) -> Iterator[Vector]:
    """The vector of each text by the engine that has loaded ``fit``, in their order, as they are made. Raises what
    ``encoder.asked`` raises."""
    facts = fit.candidate.model.embedding
    for group in encoder.groups(encoder.prefixed(texts, _prefix(facts, shape.role))):
        fields = {
            "input": [text.text for text in group],
            "encoding_format": "base64",
            "embd_normalize": LENGTH_OF_ONE if shape.normalise else AS_IT_IS,
            "truncate": truncate,
        }
        answer = encoder.asked(engine, fit, TASK, "/embeddings", fields, group)
        yield from _read(answer, group, facts or Embedding(), shape)


def _prefix(facts: Embedding | None, role: Role | None) -> str:
    if facts is None or role is None:
        return ""
    return facts.query if role is Role.QUERY else facts.document


def _require(fit: Fit, facts: Embedding | None, shape: VectorOptions) -> None:
    """Raises UsageError for what can't be done with this model."""
    name, full = fit.candidate.model.name, fit.candidate.model.shape.n_embd
    if shape.role is not None and facts is None:
        raise UsageError(f"it isn't known what {name} wants before a {shape.role}: leave out --as, and put it there")
    wanted = shape.dimensions
    if wanted is None or wanted == full:
        return
    least = None if facts is None else facts.least_dimensions
    if least is None:
        raise UsageError(f"the vectors of {name} have {full:,} dimensions, and it isn't known that they may be cut")
    if not least <= wanted <= full:
        raise UsageError(f"the vectors of {name} have {least:,} to {full:,} dimensions, not {wanted:,}")


def _read(
    answer: Mapping[str, Any], group: Sequence[GivenText], facts: Embedding, shape: VectorOptions
) -> list[Vector]:
    """Raises EngineError for an answer that is none."""
    try:
        return [
            Vector(
                text.id,
                shaped(_numbers(row["embedding"]), facts, shape),
                int(row["tokens"]),
                bool(row.get("truncated", False)),
            )
            for row, text in zip(answer["data"], group, strict=True)
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise EngineError("the engine's vectors can't be read", hint="llmctl doctor") from error


def _numbers(encoded: str) -> tuple[float, ...]:
    numbers = array(FLOAT)
    numbers.frombytes(base64.b64decode(encoded, validate=True))
    return tuple(numbers)


def shaped(vector: tuple[float, ...], facts: Embedding, shape: VectorOptions) -> tuple[float, ...]:
    """Cut to the dimensions that are wanted, and of length 1 again."""
    if shape.dimensions is None or shape.dimensions == len(vector):
        return vector
    mean = sum(vector) / len(vector) if facts.centred else 0.0
    cut = tuple(number - mean for number in vector[: shape.dimensions])
    length = math.sqrt(sum(number * number for number in cut)) if shape.normalise else 1.0
    return tuple(number / length for number in cut) if length else cut
