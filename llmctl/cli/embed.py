"""``llmctl embed``: texts in, vectors out."""

from __future__ import annotations

import json as json_text
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from llmctl.cli import complete, options
from llmctl.cli.encoding import EncoderOutput, counted, given_texts
from llmctl.cli.output import Output
from llmctl.errors import UsageError
from llmctl.types.role import Role
from llmctl.units import number_of

if TYPE_CHECKING:
    from llmctl.workspace.embed import Embedded, Vector

DIGITS = ".9g"  # tell numbers of single precision apart


def embed(
    texts: Annotated[list[str] | None, typer.Argument(metavar="TEXT", help="What to embed; - is stdin.")] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="An embedder: NAME[:QUANT] or FILE.gguf.", autocompletion=complete.models),
    ] = None,
    file: Annotated[
        list[str] | None,
        typer.Option("--file", "-f", metavar="FILE", help="JSON Lines with texts; - is stdin. Repeatable."),
    ] = None,
    lines: Annotated[bool, typer.Option("--lines", help="Each line of a file or of stdin is a text.")] = False,
    role: Annotated[Role | None, typer.Option("--as", help="What the texts are, for models that ask.")] = None,
    dimensions: Annotated[
        int | None, typer.Option("--dimensions", min=1, help="Shorter vectors, of models that allow it.")
    ] = None,
    normalise: Annotated[bool, typer.Option("--normalise/--no-normalise", help="Vectors of length 1.")] = True,
    truncate: Annotated[bool, typer.Option("--truncate", help="Leave out the end of a text that is too long.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="A table: the id, then a column for each dimension.")] = False,
    npy: Annotated[
        Path | None, typer.Option("--npy", metavar="FILE", help="Write the vectors to a NumPy file instead.")
    ] = None,
    context: Annotated[int | None, typer.Option("--context", min=1, help="Tokens of each text at most.")] = None,
    threads: Annotated[int | None, typer.Option("--threads", "-t", min=1, help="Threads to compute with.")] = None,
    local: Annotated[bool, typer.Option("--local", help="On this machine, also where a policy wants servers.")] = False,
    keep_alive: options.KeepAlive = None,
    yes: options.Yes = False,
    offline: Annotated[bool, typer.Option("--offline", help="Fetch nothing.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the vectors.")] = False,
    json: Annotated[bool, typer.Option("--json", help="A line of JSON for each vector, then one document.")] = False,
) -> None:
    """Turn texts into vectors with an embedding model on this machine.

    \b
    Examples:
      llmctl embed "Why is the sky blue?"
      llmctl embed -f notes.jsonl --as document > vectors.jsonl
      cat titles.txt | llmctl embed --lines --npy titles.npy
      llmctl embed -m qwen3-embedding-0.6b --dimensions 256 --as query "blue sky"

    A line of JSON Lines is a text ("…") or an object with "text" and perhaps an "id"; what else it has is left alone.
    On stdout comes a line for each text, in their order: id, embedding, dimensions, tokens. A text without an id has
    its number, from 0. A text that is longer than the context is refused with both numbers, unless you say --truncate.

    Without -m the best embedding model on this machine is taken; if there is none, the best for it is offered for
    download (--yes: fetched). No text leaves this machine, whatever the policy is.

    Exit codes: 0 done, 2 a text is too long or is no text, 3 nothing fits or the model is for something else, 4 no
    such model (or it needs a download and nobody said yes), 5 network, 6 a broken download, 7 disk full, 8 the engine
    failed, 11 the policy wants servers alone, 130 Ctrl-C.
    """
    from llmctl.workspace.embed import VectorOptions, vectors
    from llmctl.workspace.encoder import EncoderOptions

    out = EncoderOutput("embed", as_json=json, quiet=quiet)
    options.require_names("embed", {"--model": model})
    if csv + json + (npy is not None) > 1:
        raise UsageError("only one of --csv, --npy and --json can be had", hint="llmctl embed --help")
    given = given_texts(texts or (), file or (), plain=lines)
    loaded = options.settings_with(out, offline=offline, keep_alive=keep_alive)
    asked = EncoderOptions(model, context, threads, truncate, local, keep_alive is not None, yes)
    made = vectors(out, loaded, given, asked, VectorOptions(role, dimensions, normalise))
    sink: Sink = Csv(out) if csv else NumpyFile(npy) if npy is not None else JsonLines(out)
    with closing(made), counted(out, "embedding", len(given)) as show:
        whole = _write_all(made, sink, show)
    sink.end()
    if whole.truncated:
        out.warn(f"{number_of(whole.truncated, 'text')} of {whole.texts:,} cut off at the end: longer than the context")
    out.note(f"{number_of(whole.texts, 'text')} · {whole.tokens:,} tokens · {whole.dimensions:,} dimensions")
    out.data(whole)


class Sink(Protocol):
    """Where vectors go."""

    def add(self, vector: Vector) -> None: ...

    def end(self) -> None:
        """All vectors have come."""


class JsonLines:
    def __init__(self, out: Output) -> None:
        self._out = out

    def add(self, vector: Vector) -> None:
        row = {
            "id": vector.id,
            "embedding": [float(number) for number in _written(vector)],
            "dimensions": vector.dimensions,
            "tokens": vector.tokens,
            "truncated": vector.truncated,
        }
        self._out.json_line("embedding", row)
        self._out.text(json_text.dumps(row))

    def end(self) -> None: ...


class Csv:
    def __init__(self, out: Output) -> None:
        self._out = out
        self._has_head = False

    def add(self, vector: Vector) -> None:
        if not self._has_head:
            self._has_head = True
            self._row(["id", *map(str, range(vector.dimensions))])
        self._row([str(vector.id), *_written(vector)])

    def _row(self, cells: Sequence[str]) -> None:
        import csv
        import io

        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow(cells)
        self._out.text(line.getvalue())

    def end(self) -> None: ...


class NumpyFile:
    """Holds all vectors until the end: a file has all of them or is as it was."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._vectors: list[Vector] = []

    def add(self, vector: Vector) -> None:
        self._vectors.append(vector)

    def end(self) -> None:
        from llmctl.workspace.vector_file import write

        write(self._path, self._vectors)


def _written(vector: Vector) -> list[str]:
    return [format(number, DIGITS) for number in vector.embedding]


def _write_all(made: Generator[Vector, None, Embedded], sink: Sink, show: Callable[[int], None]) -> Embedded:
    """What came of it, when every vector has been written."""
    done = 0
    while True:
        try:
            vector = next(made)
        except StopIteration as end:
            whole: Embedded = end.value
            return whole
        sink.add(vector)
        done += 1
        show(done)
