"""The worker's address, asked as any program would."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import requests

from llmctl.engine.llama_cpp.start import start
from tests.fakes.fits import fit_for


class Client:
    def __init__(self, url: str, token: str | None) -> None:
        self._root = url.removesuffix("/v1")
        self._headers = {"Authorization": f"Bearer {token}"}

    def post(self, path: str, **fields: Any) -> requests.Response:
        return requests.post(f"{self._root}{path}", json=fields, headers=self._headers, timeout=60)

    def answer(self, path: str, **fields: Any) -> Any:
        answer = self.post(path, **fields)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refused(self, path: str, **fields: Any) -> str:
        answer = self.post(path, **fields)
        assert answer.status_code == 400, answer.text
        return str(answer.json()["error"]["message"])

    def vectors(self, *texts: str | list[int], **fields: Any) -> np.ndarray[Any, Any]:
        data = self.answer("/v1/embeddings", input=texts, **fields)["data"]
        assert [row["index"] for row in data] == list(range(len(texts)))
        return np.array([row["embedding"] for row in data])


@contextmanager
def serving(file: Path, *, context: int = 512, sequences: int = 1) -> Iterator[Client]:
    """One thread: tests run beside each other."""
    with start(fit_for(file, context=context, threads=1, sequences=sequences)) as engine:
        yield Client(engine.address.url, engine.address.token)
