"""``llmctl score``: a question scored against somebody else's vectors, without showing it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmctl import units
from llmctl.cli import complete, lazy, options
from llmctl.cli.encoding import EncoderOutput
from llmctl.cli.output import Output
from llmctl.cli.table import table
from llmctl.errors import UsageError
from llmctl.types.role import Role
from llmctl.units import number_of

app = lazy.plain(help="Score a question against vectors of somebody who doesn't learn it.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


@app.command()
def ask(
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="The question.")] = None,
    question: Annotated[Path, typer.Option("--out", "-o", help="The encrypted question.")] = Path("question.he"),
    key: Annotated[Path | None, typer.Option("--key", help="Its secret key; beside it if left out.")] = None,
    vector: Annotated[
        Path | None, typer.Option("--vector", help="File with the question's vector, in place of the text.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="The model of the vectors.", autocompletion=complete.models)
    ] = None,
    role: Annotated[Role | None, typer.Option("--as", help="What the text is, for models that ask.")] = None,
    yes: options.Yes = False,
    offline: Annotated[bool, typer.Option("--offline", help="Fetch nothing.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the file's name.")] = False,
    json: Json = False,
) -> None:
    """Encrypt a question: its vector is made on this machine, by the model that the other side's are of.

    \b
    Examples:
      llmctl score ask "when does the insurance end?" --as query
      llmctl score ask --vector question.npy -o question.he

    Hand question.he to whoever has the vectors, and keep its key: it is made anew for each question, and readable by
    you alone. The other side learns how many dimensions the vector has, and nothing else of it. Needs llmctl[he].

    Exit codes: 0 done, 2 no question or the extra is not installed, 3 to 8 as `llmctl embed`.
    """
    from llmctl.workspace import score
    from llmctl.workspace.embed import VectorOptions
    from llmctl.workspace.encoder import EncoderOptions

    out = EncoderOutput("score ask", as_json=json, quiet=quiet)
    score.require_encryption()
    if (text is None) == (vector is None):
        raise UsageError("a question is a text, or --vector FILE", hint='llmctl score ask "some text"')
    if text is not None:
        loaded = options.settings_with(out, offline=offline, keep_alive=None)
        numbers = score.embedded(out, loaded, text, EncoderOptions(model, yes=yes), VectorOptions(role))
    else:
        assert vector is not None, "one of both is given"
        numbers = score.from_file(vector)
    made = score.ask(numbers, question, key or question.with_name(f"{question.name}.key"))
    out.text(str(made.question))
    out.note(f"{units.size(made.question_bytes)}, of {made.dimensions:,} dimensions; its secret key is {made.key}.")
    out.note(f"  next, for whoever has the vectors: llmctl score answer {made.question} VECTORS.npy")
    out.data(made)


@app.command()
def answer(
    question: Annotated[Path, typer.Argument(help="The encrypted question.")],
    vectors: Annotated[Path, typer.Argument(help="Vectors, as `llmctl embed` writes them: .npy or JSON Lines.")],
    scores: Annotated[Path, typer.Option("--out", "-o", help="The encrypted scores.")] = Path("scores.he"),
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the file's name.")] = False,
    json: Json = False,
) -> None:
    """Score an encrypted question against your vectors, without reading it. Takes no key.

    \b
    Examples:
      llmctl embed -f notes.jsonl --as document --npy notes.npy
      llmctl score answer question.he notes.npy

    Scores are exact inner products of whole numbers, vectors rounded to 255 steps. Whoever has asked learns a score for
    each vector, in their order, and how many there are; with as many questions as dimensions that is the vectors.

    Exit codes: 0 done, 2 vectors of another length, 4 no such file, 6 the question is broken, 7 it can't be written.
    """
    from llmctl.workspace import score

    out = Output("score answer", as_json=json, quiet=quiet)
    score.require_encryption()
    made = score.answer(question, vectors, scores)
    out.text(str(made.scores))
    out.note(f"{number_of(made.vectors, 'score')} in {units.size(made.scores_bytes)}, for whoever has asked:")
    out.note(f"  llmctl score open {made.scores} --key QUESTION.key")
    out.data(made)


@app.command(name="open")
def open_(
    scores: Annotated[Path, typer.Argument(help="The encrypted scores.")],
    key: Annotated[Path, typer.Option("--key", help="The question's secret key.")] = Path("question.he.key"),
    best: Annotated[int | None, typer.Option("--best", "-n", min=1, help="So many, the best first.")] = None,
    json: Json = False,
) -> None:
    """Decrypt the scores of your question: a line for each vector, by its number from 0.

    \b
    Examples:
      llmctl score open scores.he --key question.he.key --best 5

    Scores are refused where noise may have changed them: the budget that is left is told. Nothing proves that the other
    side has computed what it should.

    Exit codes: 0 done, 4 no such file, 6 the scores are broken, too noisy, or of another question.
    """
    from llmctl.workspace import score

    out = Output("score open", as_json=json)
    score.require_encryption()
    made = score.open_scores(scores, key)
    rows = [(number, score_, exact) for number, (score_, exact) in enumerate(zip(made.scores, made.exact, strict=True))]
    if best is not None:
        rows = sorted(rows, key=lambda row: -row[2])[:best]
    for line in table([(str(number), f"{score_:.4f}") for number, score_, _ in rows], ">>"):
        out.text(line)
    if made.noise_budget_bits is not None:
        out.note(f"Noise budget left: {made.noise_budget_bits} bits.")
    shown = [{"number": number, "score": score_, "exact": exact} for number, score_, exact in rows]
    out.data({"scores": shown, "vectors": len(made.exact), "noise_budget_bits": made.noise_budget_bits})
