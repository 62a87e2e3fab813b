"""The indexes that a gateway's owner has named, for programs that ask the gateway."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmctl.errors import NotFoundError
from llmctl.printable import printable
from llmctl.settings import Settings
from llmctl.struct import asdict
from llmctl.types.listener import Listener
from llmctl.workspace import indexes, own_texts
from llmctl.workspace.indexes import NamedIndex
from llmctl.workspace.search import FolderSearch, SearchOptions, search

EXCERPTS_SHARE = 2  # of the smallest context half at most


class ServedTexts:
    """Searches them as they are: what is new in their folders, ``llmctl index update`` reads. Callable by several
    threads."""

    def __init__(self, listener: Listener, settings: Settings, names: Sequence[str], *, least_context: int) -> None:
        """``least_context``: tokens that each model of the gateway has for a request. Raises NotFoundError for a name
        that no index has."""
        self._listener, self._settings = listener, settings
        self._indexes = {name: indexes.get(name) for name in names}
        self._tokens = min(own_texts.MOST_TOKENS, least_context // EXCERPTS_SHARE)

    def search(self, index: str, query: str, most: int) -> Mapping[str, Any]:
        """As ``OwnTexts`` of the gateway has it."""
        answer = self._searched(self._named(index), query, most)
        results = [{**asdict(hit), "index": index} for hit in answer.results]
        return {"object": "list", "index": index, "is_about": answer.is_about, "data": results}

    def before(self, index: str, question: str) -> tuple[str, Sequence[Mapping[str, Any]]]:
        """As ``OwnTexts`` of the gateway has it."""
        named = self._named(index)
        answer = self._searched(named, question, own_texts.MOST_EXCERPTS)
        excerpts = own_texts.excerpts(named, answer.results, answer.searched, is_about=answer.is_about)
        excerpts = excerpts.within(self._tokens)
        return excerpts.before(question), [asdict(source) for source in excerpts.sources]

    def _searched(self, index: NamedIndex, question: str, most: int) -> FolderSearch:
        return search(self._listener, self._settings, index, question, SearchOptions(most, private=True))

    def _named(self, name: str) -> NamedIndex:
        """Raises NotFoundError for an index that isn't served, whether or not there is one."""
        if name not in self._indexes:
            named = ", ".join(self._indexes)
            raise NotFoundError(f"no index {printable(name)!r} is served here, only {named}")
        return self._indexes[name]
