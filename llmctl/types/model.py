"""Models, their files, and the two things a planner must know of each file: its shape and its weights."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from msgspec import Struct, field


class SourceKind(StrEnum):
    HUB = "hub"
    PACKAGE_INDEX = "package_index"
    LOCAL = "local"


class Source(Struct, frozen=True):
    """Where one file comes from.

    ``repo`` is ``org/name`` on the hub, the requirement (``name==version``) on the package index, or None for a
    local file; ``file`` is the path inside the repository or wheel, or the absolute path of a local file.
    """

    kind: SourceKind
    repo: str | None
    file: str
    bytes: int | None = None
    sha256: str | None = None
    revision: str = "main"


class Layer(Struct, frozen=True):
    """What one layer keeps: ``kv_width`` elements of each token, of the last ones only if it is ``windowed``, and
    ``state_bytes`` of recurrent state for each sequence. ``padding`` as in ``Shape``. Beside that, ``compressed_width``
    elements for every ``compression`` tokens."""

    kv_width: int
    windowed: bool = False
    state_bytes: int = 0
    padding: int = 0
    compression: int = 0
    compressed_width: int = 0


class Heads(Struct, frozen=True):
    """Elements of a head's key and value, and how many heads of queries share them."""

    key_length: int
    value_length: int
    group: int


class Working(Struct, frozen=True):
    """What a layer's graph holds besides attention and feed-forward network, in elements for each token.

    ``streams`` of residuals are carried beside a layer (hyper connections, attention over earlier layers). ``mixer`` is
    what a recurrent layer with a scan has at once, ``mixer_state`` the elements of the state that it hands out, for all
    tokens together. An indexer picks ``top_k`` tokens in each of ``sparse_layers``; with ``block_heads`` it scores
    blocks of tokens, by so many heads. ``expert_width`` is that of what routed experts work in, 0 that of all else.
    """

    streams: int = 0
    mixer: int = 0
    mixer_state: int = 0
    top_k: int = 0
    sparse_layers: int = 0
    block_heads: int = 0
    expert_width: int = 0
    shared_experts: bool = True


class Shape(Struct, frozen=True):
    """The hyperparameters that memory and speed depend on.

    ``kv_width`` and ``kv_window_width`` are elements (keys and values together) that one token adds to the cache,
    summed over the layers that cache the whole context and over those that cache only ``window`` tokens.
    ``state_bytes`` is recurrent state per sequence, whatever the length. ``layers`` says the same of each layer, in
    order; it is empty where only the sums are known.

    ``key_length`` and ``value_length`` are the elements of one head's key and value, ``value_width`` those of all
    values of a layer, in the layer with the most. Without flash attention all layers' values are kept as wide as
    that: ``kv_padding`` and ``kv_window_padding`` elements are added. ``n_head`` is the most of any layer,
    ``n_ff_expert`` the feed-forward width of one expert; 0 is unknown. With ``latent`` attention (MLA) the key is the
    latent vector and no value is kept. ``per_layer_width`` elements of per-layer embeddings go through the graph with
    each token. ``n_merge`` pairs of a byte-pair vocabulary are kept beside its tokens; 0 is none, or unknown.

    ``n_layer`` are the layers that are run, ``n_draft`` those behind them that only draft tokens: they are not run, but
    llama.cpp counts them on devices. ``passes`` is how often the weights of a layer are run for one token: more than
    once where layers are looped, and each pass has a cache of its own. ``n_head_full`` are the most heads of a layer
    that sees all tokens, where windowed ones have more; 0 where that isn't known. ``heads`` are the kinds of heads that
    there are; empty where they aren't known. ``pools``: one row is made of all tokens of a text, a vector or a score.
    """

    architecture: str
    n_layer: int
    n_embd: int
    n_head: int
    n_ff: int | None
    n_vocab: int | None
    context_train: int
    kv_width: int
    kv_window_width: int = 0
    window: int | None = None
    state_bytes: int = 0
    n_expert: int = 0
    n_expert_used: int = 0
    key_length: int = 0
    value_length: int = 0
    value_width: int = 0
    kv_padding: int = 0
    kv_window_padding: int = 0
    n_ff_expert: int = 0
    latent: bool = False
    per_layer_width: int = 0
    n_merge: int = 0
    n_draft: int = 0
    passes: float = 1.0
    n_head_full: int = 0
    heads: tuple[Heads, ...] = ()
    working: Working = Working()
    layers: tuple[Layer, ...] = ()
    pools: bool = False


class Weights(Struct, frozen=True):
    """Tensor bytes of one file by role.

    ``total_bytes`` everything; ``embedding_bytes`` what is looked up and not streamed, which stays on the CPU: tables
    of positions and of per-layer embeddings, and the token table where it is *not* also the output head;
    ``tied_bytes`` the token table where it is (a device with the head has a copy of its own); ``expert_bytes`` all
    routed experts; ``type_bytes`` bytes per ggml weight type of all that takes part in matrix products, of which
    ``expert_type_bytes`` lie in routed experts (empty: in proportion). ``layer_bytes`` is everything in each layer, in
    order, those for drafting last, of which ``layer_expert_bytes`` are routed experts; both are empty where only sums
    are known. ``draft_layer_bytes`` of layers for drafting are loaded although nothing is drafted, and never streamed;
    ``unpackable_bytes`` by type are what CPU kernels never repack, whatever its type. ``matrix_bytes`` and
    ``expert_matrix_bytes`` are those of the largest matrix in a layer, experts apart; 0 is unknown.
    ``exact`` is True when read from a header, False when derived from the catalogue's figures.
    """

    total_bytes: int
    embedding_bytes: int
    expert_bytes: int
    type_bytes: Mapping[str, int]
    exact: bool
    expert_type_bytes: Mapping[str, int] = field(default_factory=dict)
    tied_bytes: int = 0
    layer_bytes: tuple[int, ...] = ()
    layer_expert_bytes: tuple[int, ...] = ()
    draft_layer_bytes: int = 0
    unpackable_bytes: Mapping[str, int] = field(default_factory=dict)
    matrix_bytes: int = 0
    expert_matrix_bytes: int = 0


class Thinking(StrEnum):
    """Whether a model thinks before it answers: never; when its chat template is told to; unless it is told not to;
    whatever it is told."""

    NEVER = "never"
    ASKED = "asked"
    DEFAULT = "default"
    ALWAYS = "always"


class Evidence(Struct, frozen=True):
    """One published result. ``thinking`` is whether the model thought first; ``setting`` says how else it was run;
    ``self_reported`` by the model's own publisher; ``estimated`` by the benchmark's publisher, not run."""

    benchmark: str
    score: float
    source: str
    thinking: bool = False
    setting: str | None = None
    self_reported: bool = False
    estimated: bool = False


class Openness(Struct, frozen=True):
    """Grades (open, partial, closed) by dimension, from the European Open Source AI Index (CC BY 4.0).

    The index grades one member of a family: ``graded_on`` names it, and ``match`` says how near it is to this model
    (MATCHES of ``catalogue.openness``). ``date`` is when the index last changed the entry.
    """

    entry: str
    graded_on: str
    match: str
    source: str
    grades: Mapping[str, str]
    date: str | None = None


class Relative(Struct, frozen=True):
    """Another model of the same family, as far as it tells something of this one. ``size`` as ``Model.size``."""

    name: str
    size: float
    thinking: Thinking
    released: str | None
    evidence: tuple[Evidence, ...]


class Embedding(Struct, frozen=True):
    """How an embedding model wants texts, and what may be made of its vectors, by its publisher.

    ``query`` and ``document`` stand before a text of that kind. ``least_dimensions``: a vector may be cut to as few
    numbers, and is then made as long as 1 again; None where it may not be cut. ``centred``: the mean of its numbers is
    taken off before it is cut.
    """

    query: str = ""
    document: str = ""
    least_dimensions: int | None = None
    centred: bool = False


class Artifact(Struct, frozen=True):
    """One quantization of a model: the file to fetch and what it weighs. ``projector_bytes`` are the weights of the
    vision projector that is loaded with it, ``projector_compute_bytes`` the buffer that one image is computed in. The
    source of a split model is its first part, with the bytes of all parts and no sha256."""

    quant: str
    source: Source
    weights: Weights
    projector_bytes: int = 0
    projector_compute_bytes: int = 0

    @property
    def bytes(self) -> int:
        """The file's size as stated, else what its tensors weigh: a few megabytes less."""
        return self.source.bytes or self.weights.total_bytes


class Model(Struct, frozen=True):
    """A catalogue entry or a file's own account of itself. Unknown facts are None or empty, never guessed.

    ``sources`` maps a fact, or a group of them, to the address that states it. ``evidence`` is all that was published;
    what it is worth for a task is the planner's business. ``distilled_from`` is the teacher of a distillation, which
    was trained from ``base_model`` on what the teacher wrote: it is not the teacher. ``projector`` is the file that
    a model needs in order to see; without it, it reads. ``relatives`` are the models of the same family about which
    something was published, in the order of their size. ``embedding`` is None where it isn't known.
    """

    id: str
    name: str
    publisher: str | None
    licence: str | None
    shape: Shape
    artifacts: tuple[Artifact, ...]
    base_model: str | None = None
    distilled_from: str | None = None
    released: str | None = None
    parameters: int | None = None
    active_parameters: int | None = None
    languages: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    thinking: Thinking = Thinking.NEVER
    starter: bool = False
    evidence: tuple[Evidence, ...] = ()
    openness: Openness | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    sampling: Mapping[str, int | float] | None = None
    projector: Source | None = None
    relatives: tuple[Relative, ...] = ()
    embedding: Embedding | None = None

    @property
    def size(self) -> float | None:
        """Parameters as they tell on quality: of a mixture of experts the geometric mean of all and the active ones,
        which is the usual rule of thumb (A. Jiang, Mistral AI, lecture at Stanford CS25, 2024)."""
        if not self.parameters:
            return None
        return float((self.parameters * (self.active_parameters or self.parameters)) ** 0.5)


class Candidate(Struct, frozen=True):
    """A model with one of its artifacts, and the verified file if this machine already has it. ``projector`` is the
    file of the vision projector that is to be loaded with it."""

    model: Model
    artifact: Artifact
    path: Path | None = None
    projector: Path | None = None
