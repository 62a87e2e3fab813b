"""Calls that block, in threads of their own: a client that waits for a model must not keep another one waiting."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from llmctl.server.behind import ModelLease, Models

T = TypeVar("T")
MOST = 256  # that block at once


class BlockingCalls:
    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(MOST, thread_name_prefix="gateway")

    async def run(self, call: Callable[..., T], *given: Any) -> T:
        return await asyncio.wrap_future(self._pool.submit(call, *given))

    async def lease(self, models: Models, name: str, client: str) -> ModelLease:
        """Waits for the model. Cancelled, it gives up, and gives back what it may still get. Raises LlmctlError."""
        is_gone = threading.Event()
        taken = self._pool.submit(models.lease, name, is_gone.is_set, client)
        try:
            return await asyncio.wrap_future(taken)
        except asyncio.CancelledError:
            is_gone.set()
            taken.add_done_callback(_give_back)
            raise

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def _give_back(taken: Future[ModelLease]) -> None:
    with suppress(Exception):  # it has none to give back
        taken.result().close()
