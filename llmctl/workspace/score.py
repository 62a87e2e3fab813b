"""A question scored against vectors of somebody else, who doesn't learn it: three steps, with files between them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from llmctl.encrypted_scoring import container
from llmctl.encrypted_scoring.asker import OpenedScores, asked, opened
from llmctl.encrypted_scoring.quantized import quantized
from llmctl.encrypted_scoring.scorer import scored
from llmctl.errors import UsageError
from llmctl.files import atomic
from llmctl.types.listener import Listener
from llmctl.workspace import vector_file
from llmctl.workspace.texts import GivenText

if TYPE_CHECKING:
    from llmctl.settings import Settings
    from llmctl.workspace.embed import VectorOptions
    from llmctl.workspace.encoder import EncoderOptions

EXTRA = 'pip install "llmctl[he]"'


class AskedQuestion(Struct, frozen=True):
    """``question`` is for whoever has the vectors, ``key`` for nobody else."""

    question: Path
    key: Path
    dimensions: int
    question_bytes: int


class AnsweredQuestion(Struct, frozen=True):
    scores: Path
    vectors: int
    dimensions: int
    scores_bytes: int


def require_encryption() -> None:
    """Raises UsageError where the extra is not installed."""
    try:
        import tenseal.sealapi  # noqa: F401
    except ImportError as error:
        raise UsageError("encrypted scoring needs TenSEAL, which is not installed", hint=EXTRA) from error


def embedded(
    listener: Listener, settings: Settings, text: str, options: EncoderOptions, shape: VectorOptions
) -> tuple[float, ...]:
    """The vector of a question, made on this machine. Raises what ``embed.vectors`` raises."""
    from llmctl.workspace.embed import vectors

    (vector,) = vectors(listener, settings, [GivenText(0, text, "the question")], options, shape)
    return vector.embedding


def from_file(path: Path) -> tuple[float, ...]:
    """The one vector of a file. Raises UsageError, NotFoundError."""
    rows = vector_file.read(path)
    if len(rows) != 1:
        raise UsageError(f"{path} has {len(rows):,} vectors, a question is one")
    return rows[0]


def ask(vector: tuple[float, ...], question: Path, key: Path) -> AskedQuestion:
    """Writes the encrypted question, and the secret key that opens its scores, readable by this user alone. Raises
    UsageError, ResourceError."""
    encrypted, secret = asked(vector)
    container.write(key, secret, mode=atomic.OWN)
    container.write(question, encrypted)
    return AskedQuestion(question, key, encrypted.dimensions, encrypted.size_bytes)


def answer(question: Path, vectors: Path, scores: Path) -> AnsweredQuestion:
    """Writes the encrypted scores of a question against all vectors of a file. Raises UsageError, NotFoundError,
    IntegrityError, ResourceError."""
    made = scored(container.read(question, container.QUESTION), quantized(vector_file.read(vectors)))
    container.write(scores, made)
    return AnsweredQuestion(scores, made.vectors, made.dimensions, made.size_bytes)


def open_scores(scores: Path, key: Path) -> OpenedScores:
    """Raises NotFoundError, IntegrityError, ResourceError."""
    return opened(container.read(scores, container.SCORES), container.read(key, container.KEY))
