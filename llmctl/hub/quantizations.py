"""What a repository or a folder offers: its files grouped into models, each whole, with its projector."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from msgspec import Struct
from msgspec.structs import replace

from llmctl.errors import IntegrityError, NotFoundError
from llmctl.gguf import file_names
from llmctl.gguf.shards import Shard, shard
from llmctl.near import near
from llmctl.shell import command
from llmctl.types.model import Source

# Without a word from the user: four bits first, as every tool does, since they lose little and fit twice as often as
# eight; what is larger than eight is for those who quantize themselves.
PREFERRED = ("Q4_K_M", "UD-Q4_K_XL", "MXFP4", "MXFP4_MOE", "Q4_K_S", "Q4_0", "IQ4_XS", "IQ4_NL", "Q5_K_M", "Q8_0")
SHOWN, MOST_SHOWN = 5, 30  # files, and quantizations, in a message
PROJECTORS = ("F16", "BF16", "Q8_0", "F32")  # of the quantizations that there are of one


class Offer(Struct, frozen=True):
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


def as_one(parts: Sequence[Source]) -> Source:
    """The first of the ``parts`` of a model, with the bytes of all; a sha256 only where it is that of everything."""
    sizes = [part.bytes for part in parts]
    total_bytes = None if None in sizes else sum(size or 0 for size in sizes)
    return replace(parts[0], bytes=total_bytes, sha256=parts[0].sha256 if len(parts) == 1 else None)


def offers(files: Iterable[Source]) -> list[Offer]:
    """Every model among ``files`` that is whole, the smallest first."""
    by_name = {file.file: file for file in files}
    projectors = _best_by_folder(
        file for name, file in by_name.items() if file_names.is_projector(name) and file_names.has_ending(name)
    )
    models = [Offer(_quant(parts[0].file), parts, _nearest(parts[0].file, projectors)) for parts in _whole(by_name)]
    return sorted(models, key=lambda offer: (offer.bytes or 0, offer.parts[0].file))


def _whole(by_name: Mapping[str, Source]) -> Iterator[tuple[Source, ...]]:
    """The files of every model that has all its parts, in order. Linear: a listing may have thousands of them."""
    split: dict[Shard, dict[int, Source]] = {}
    for name, file in by_name.items():
        if not file_names.is_model(name):
            continue
        try:
            part = shard(name)
        except IntegrityError:  # numbers that make no sense: no model
            continue
        if part is None:
            yield (file,)
        else:
            split.setdefault(part._replace(number=0), {})[part.number] = file
    for model, parts in split.items():
        if len(parts) == model.total:
            yield tuple(parts[number] for number in sorted(parts))


def _quant(file: str) -> str:
    return file_names.quant(file) or PurePosixPath(file).stem


def choose(models: Sequence[Offer], name: str | None, where: str) -> Offer:
    """The offer of the quant ``name`` in any case and spelling, or of the file or folder of that name; without, the
    one most people take.

    Raises NotFoundError that names the quants that there are.
    """
    if not models:
        raise _no_model(where)
    if name is None:
        return min(models, key=lambda offer: (_is_draft(offer), _rank(offer.quant)))
    fits = next((fits for names in ASKED_BY if (fits := _called(models, names, name))), [])
    if not fits:
        raise _no_such(models, name, where)
    whole = [offer for offer in fits if not _is_draft(offer)] or fits
    if len(whole) == 1:
        return whole[0]
    files = [offer.parts[0].file for offer in whole]
    raise NotFoundError(
        f"{where} has {len(files)} models in {name}: {', '.join(files[:SHOWN])}",
        hint=command("llmctl", "pull", names=[f"{where}:{files[0]}"]),
    )


def _called(models: Sequence[Offer], names: Callable[[Offer], set[str]], name: str) -> list[Offer]:
    spellings = {name.lower(), (file_names.whole_quant(name) or name).lower()}
    return [offer for offer in models if spellings & {name.lower() for name in names(offer)}]


def _exact(offer: Offer) -> set[str]:
    return {offer.quant, offer.parts[0].file}


def _without_folder(offer: Offer) -> set[str]:
    path = PurePosixPath(offer.parts[0].file)
    return {path.name, file_names.without_ending(path.name), *(str(folder) for folder in path.parents)}


def _without_maker(offer: Offer) -> set[str]:
    """``Q4_K_XL`` of ``UD-Q4_K_XL``."""
    return {offer.quant.removeprefix("UD-")}


ASKED_BY = (_exact, _without_folder, _without_maker)
"""What an offer may be asked by; a later name counts where nothing goes by an earlier one."""


def _no_model(where: str) -> NotFoundError:
    message = f"there is no whole GGUF model in {where}"
    if where.lower().endswith("-gguf"):
        return NotFoundError(message, hint="llmctl models list --all")
    quantized = command("llmctl", "pull", names=[f"{where}-GGUF"])
    return NotFoundError(message, hint=f"{quantized}   where quantized files of a model often are")


def _no_such(models: Sequence[Offer], name: str, where: str) -> NotFoundError:
    quants = list(dict.fromkeys(offer.quant for offer in models))
    closest = (near(name, quants, most=1) or quants)[0]
    listed = ", ".join(quants[:MOST_SHOWN]) + (
        f" and {len(quants) - MOST_SHOWN} more" if len(quants) > MOST_SHOWN else ""
    )
    hint = command("llmctl", "pull", names=[f"{where}:{closest}"])
    return NotFoundError(f"{where} has no {name}, but {listed}", hint=hint)


def _is_draft(offer: Offer) -> bool:
    return file_names.is_draft(offer.parts[0].file)


def _rank(quant: str) -> int:
    return PREFERRED.index(quant) if quant in PREFERRED else len(PREFERRED)


def nearest_projector(model: str, projectors: Sequence[Source]) -> Source | None:
    """Of the projectors in the model's folder or one above it, the nearest, and of those the one in sixteen bits."""
    return _nearest(model, _best_by_folder(projectors))


def _nearest(model: str, projectors: Mapping[PurePosixPath, Source]) -> Source | None:
    folders = (folder for folder in PurePosixPath(model).parents if folder in projectors)
    return next((projectors[folder] for folder in folders), None)


def _best_by_folder(projectors: Iterable[Source]) -> dict[PurePosixPath, Source]:
    """Of the projectors in each folder the one that is preferred."""
    best: dict[PurePosixPath, tuple[tuple[int, str], Source]] = {}
    for file in projectors:
        quant, folder = file_names.quant(file.file), PurePosixPath(file.file).parent
        rank = PROJECTORS.index(quant) if quant in PROJECTORS else len(PROJECTORS), file.file
        if folder not in best or rank < best[folder][0]:
            best[folder] = rank, file
    return {folder: file for folder, (_, file) in best.items()}
