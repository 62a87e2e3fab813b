"""One answer on its way through the scheduler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from llmctl.engine.llama_cpp.mixed_prompt import NO_PICTURES, PictureRows, PromptPictures
from llmctl.engine.llama_cpp.prompt_cache import OnDisk
from llmctl.engine.llama_cpp.sampling import Sampler
from llmctl.engine.llama_cpp.slots import Slot
from llmctl.engine.llama_cpp.speculation import Drafter
from llmctl.engine.llama_cpp.work import Work


@dataclass(eq=False)
class Generation:
    """One answer to a prompt.

    ``take`` is given each token that was sampled, and says whether another one is wanted; ``end`` is called once, with
    None or the error that ended it. Both are called by the thread that computes and must not wait for anybody.

    ``is_repeatable``: it is computed by itself, its prompt in parts of the same length each time, and shares nothing:
    llama.cpp rounds differently by how many rows it multiplies at once, which is enough to change a word.
    """

    prompt: Sequence[int]
    sampler: Sampler
    take: Callable[[int], bool]
    end: Callable[[Exception | None], None]
    uses_cache: bool = True
    is_repeatable: bool = False
    on_disk: OnDisk = field(default_factory=OnDisk)
    drafter: Drafter | None = None
    pictures: PromptPictures = NO_PICTURES
    work: Work = field(default_factory=Work)
    slot: Slot | None = None
    last: int | None = None  # the token that was sampled last; it isn't computed yet
    is_cancelled: bool = False

    @property
    def is_writing(self) -> bool:
        return self.last is not None

    @property
    def left(self) -> int:
        """Tokens of the prompt that are still to be read."""
        return 0 if self.slot is None else max(0, len(self.prompt) - len(self.slot.tokens))

    @property
    def left_at_once(self) -> int:
        """Of those, the ones before a picture, or the place at which the beginning is to be written to disk."""
        held = 0 if self.slot is None else len(self.slot.tokens)
        end = self.on_disk.write_at if held < self.on_disk.write_at else held + self.left
        return self.pictures.text_until(held, end) - held

    @property
    def picture(self) -> PictureRows | None:
        """The picture that is to be computed next."""
        return None if self.slot is None else self.pictures.at(len(self.slot.tokens))
