"""The receipt of what executed."""

from __future__ import annotations

from llmctl import paths
from llmctl.engine.supervise import Engine
from llmctl.router.answer import Progress, answer
from llmctl.types.answer import Message, Piece, Sampling
from llmctl.types.endpoint import Endpoint, Remote
from llmctl.types.plan import Fit
from tests.fakes.chat_server import DONE, ChatServer, data, event, stream


class Nobody:
    """A listener to whom nothing is of interest."""

    def loaded(self, fit: Fit, engine: Engine) -> None: ...

    def leaving(self, endpoint: Endpoint, host: str, reason: str) -> None: ...

    def staying(self, reason: str) -> None: ...

    def piece(self, piece: Piece) -> None: ...


def test_the_memory_of_somebody_elses_machine_is_not_ours() -> None:
    told = data({"choices": [], "memory": {"anonymous_bytes": 5, "device_bytes": 6}})
    with ChatServer(stream(event("Hi", finish="stop"), told, DONE)) as server:
        route = Remote(Endpoint("office", server.url, "m"), "you asked for it", None)
        made = answer(route, [Message("user", "hi")], Sampling(), listener=Nobody(), so_far=Progress())
    assert made.text == "Hi"
    assert made.measured is None
    assert not paths.data_dir().exists(), "what ran elsewhere is no run of this machine"
