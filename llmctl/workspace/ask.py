"""From a prompt to its answer: by which address, with whose engine, and what it took."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from llmctl.types.endpoint import Policy

if TYPE_CHECKING:
    from llmctl.router.answer import PartialAnswer
    from llmctl.settings import Settings
    from llmctl.types.answer import Answer, Message, Sampling
    from llmctl.types.listener import Listener
    from llmctl.workspace.local_run import LocalRun

BYTES_PER_TOKEN = 3  # of UTF-8: English has four to five, source code some three
FRAME_TOKENS = 16  # what a chat template puts around the messages


def ask(
    listener: Listener,
    settings: Settings,
    messages: Sequence[Message],
    sampling: Sampling,
    here: Callable[[], LocalRun],
    *,
    so_far: PartialAnswer,
    local: bool = False,
    endpoint: str | None = None,
) -> Answer:
    """The answer of this machine, or of a server where the settings let the prompt go there. ``here`` says what would
    answer on this machine, and is called only if it may.

    ``local``: here or not at all; ``endpoint``: by the server of that name or not at all. Raises NotFoundError,
    PolicyError, OfflineError, NothingFitsError, what ``here`` and what the router raise; ``so_far`` then holds what was
    written.
    """
    from llmctl.engine.pool import Pool
    from llmctl.router.answer import answer
    from llmctl.router.route import route

    pinned = None if endpoint is None else settings.endpoint(endpoint)
    policy, endpoints, offline = settings.policy, settings.endpoints, settings.offline
    with Pool() as pool:
        if pinned is not None or (policy is Policy.REMOTE_ONLY and not local):
            decided = route(None, policy, endpoints, pinned=pinned, local=local, offline=offline)
        else:
            pool.prepare()  # imports the engine while we plan
            ready = here()
            decided = route(ready.planned, policy, endpoints, local=local, offline=offline, barred=ready.barred)
        return answer(
            decided,
            messages,
            sampling,
            listener=listener,
            lease=pool.lease,
            so_far=so_far,
            record=settings.history,
        )


def estimated_tokens(messages: Sequence[Message]) -> int:
    """Tokens of a prompt before a tokenizer has seen it, rather too many than too few. The exact number is the
    engine's; it decides whether the prompt fits."""
    return sum(len(message.content.encode()) for message in messages) // BYTES_PER_TOKEN + FRAME_TOKENS
