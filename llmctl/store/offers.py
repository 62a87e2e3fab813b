"""What a repository or a folder offers: its files grouped into models, each whole, with its projector."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from llmctl.errors import IntegrityError, NotFoundError
from llmctl.gguf.shards import shard_names
from llmctl.store import names
from llmctl.types.model import Source

# Without a word from the user: four bits first, as every tool does, since they lose little and fit twice as often as
# eight; what is larger than eight is for those who quantize themselves.
PREFERRED = ("Q4_K_M", "UD-Q4_K_XL", "MXFP4", "MXFP4_MOE", "Q4_K_S", "Q4_0", "IQ4_XS", "IQ4_NL", "Q5_K_M", "Q8_0")
PROJECTORS = ("F16", "BF16", "Q8_0", "F32")  # of the quantizations that there are of one


@dataclass(frozen=True, slots=True)
class Offer:
    """One model in one quantization: all its parts in order, and a projector or None."""

    quant: str
    parts: tuple[Source, ...]
    projector: Source | None = None

    @property
    def files(self) -> tuple[Source, ...]:
        return self.parts if self.projector is None else (*self.parts, self.projector)

    @property
    def bytes(self) -> int | None:
        sizes = [file.bytes for file in self.files]
        return None if None in sizes else sum(size or 0 for size in sizes)


def offers(files: Iterable[Source]) -> list[Offer]:
    """Every model among ``files`` that is whole, the smallest first."""
    known = {file.file: file for file in files}
    projectors = [file for name, file in known.items() if names.is_projector(name) and name.lower().endswith(".gguf")]
    found = []
    for name in known:
        parts = _parts(name)
        if names.is_model(name) and parts[0] == name and all(part in known for part in parts):
            quant = names.quant(name) or PurePosixPath(name).stem
            found.append(Offer(quant, tuple(known[part] for part in parts), beside(name, projectors)))
    return sorted(found, key=lambda offer: (offer.bytes or 0, offer.parts[0].file))


def choose(found: Sequence[Offer], wanted: str | None, where: str) -> Offer:
    """The offer of the quant ``wanted`` in any case, or of the file of that name; without, the one most people take.

    Raises NotFoundError that names the quants that there are.
    """
    if not found:
        hint = f"llmctl pull {where}-GGUF   where quantized files of a model often are"
        raise NotFoundError(f"there is no whole GGUF model in {where}", hint=hint)
    if wanted is None:
        return min(found, key=lambda offer: _rank(offer.quant))
    folded = wanted.lower()
    fits = [one for one in found if folded in (one.quant.lower(), one.parts[0].file.lower())]
    if len(fits) == 1:
        return fits[0]
    if fits:
        files = ", ".join(one.parts[0].file for one in fits[:5])
        raise NotFoundError(f"{where} has {len(fits)} models in {wanted}", hint=f"name one of the files: {files}")
    quants = list(dict.fromkeys(one.quant for one in found))
    near = difflib.get_close_matches(folded, [quant.lower() for quant in quants], n=1, cutoff=0.5)
    closest = next((quant for quant in quants if quant.lower() in near), quants[0])
    raise NotFoundError(f"{where} has no {wanted}, but {', '.join(quants)}", hint=f"llmctl pull {where}:{closest}")


def _parts(name: str) -> list[str]:
    try:
        return shard_names(name)
    except IntegrityError:  # numbers that make no sense: no model
        return [""]


def _rank(quant: str) -> int:
    return PREFERRED.index(quant) if quant in PREFERRED else len(PREFERRED)


def beside(model: str, projectors: Sequence[Source]) -> Source | None:
    """Of the projectors in the model's folder or one above it, the nearest, and of those the one in sixteen bits."""
    parents = [str(parent) for parent in PurePosixPath(model).parents]
    near = [one for one in projectors if str(PurePosixPath(one.file).parent) in parents]

    def order(one: Source) -> tuple[int, int, str]:
        quant = names.quant(one.file) or ""
        depth = parents.index(str(PurePosixPath(one.file).parent))
        return depth, PROJECTORS.index(quant) if quant in PROJECTORS else len(PROJECTORS), one.file

    return min(near, key=order, default=None)
