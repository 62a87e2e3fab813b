"""``llmctl token``: who may use the gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from llmctl.cli import complete, lazy
from llmctl.cli.output import Output
from llmctl.cli.table import table
from llmctl.units import number_of

if TYPE_CHECKING:
    from llmctl.types.access_token import AccessToken

app = lazy.plain(help="Tokens of those who may use your gateway.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
HEADS = ("name", "made (UTC)", "expires (UTC)", "models", "requests/min", "tokens/min")


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Who or what it is for: a short name of your choice.")],
    expires: Annotated[
        str | None, typer.Option("--expires", help="How long it is good: 12h, 30d. Until it is revoked if left out.")
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option("--models", metavar="MODEL", help="A model it may use; repeatable. Else all."),
    ] = None,
    requests_per_minute: Annotated[
        int | None, typer.Option("--requests-per-minute", min=1, metavar="N", help="Requests in a minute at most.")
    ] = None,
    tokens_per_minute: Annotated[
        int | None,
        typer.Option("--tokens-per-minute", min=1, metavar="N", help="Tokens of prompts and answers in a minute."),
    ] = None,
    json: Json = False,
) -> None:
    """Make a token and print it, once: only its sha256 is kept.

    \b
    Examples:
      llmctl token add laptop
      llmctl token add ci --expires 30d --models qwen3-4b --requests-per-minute 20

    Programs send it as their API key (Authorization: Bearer, or x-api-key). A gateway that runs takes it at once.
    Requests beyond a limit are refused with 429 and the time after which to try again; those that are on their way go
    on. The tokens of an answer count when it is there, so that the last one may go beyond the limit.

    Exit codes: 0 added, 2 the name is taken or can't be one, 7 the file of tokens can't be written, 10 it is broken.
    """
    from llmctl.workspace import tokens

    out = Output("token add", as_json=json)
    kept, token = tokens.add(
        name,
        expires_s=None if expires is None else _duration_s(expires),
        models=models or (),
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
    )
    out.text(token)
    until = "until it is revoked" if kept.expires is None else f"until {kept.expires}"
    out.note(f"The token of {name}, good {until}. It is shown this once: keep it where only {name} can read it.")
    out.data({**_row(kept), "token": token})


@app.command(name="list")
def list_(json: Json = False) -> None:
    """Show the tokens there are, by name, never the tokens themselves.

    Exit codes: 0 also when there is none, 10 the file of tokens is broken.
    """
    from llmctl.workspace import tokens

    out = Output("token list", as_json=json)
    kept = tokens.read()
    if not kept:
        out.note("There is no token: on this machine alone the gateway needs none.")
        out.note("  next: llmctl token add NAME")
    else:
        for line in table([HEADS, *map(_shown, kept)], "<<<<>>"):
            out.text(line)
    out.data({"tokens": [_row(token) for token in kept]})


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(help="The token's name.", autocompletion=complete.tokens)],
    json: Json = False,
) -> None:
    """End a token. A gateway that runs refuses it from the next request on; answers on their way go on.

    Exit codes: 0 revoked, 4 no token of that name, 7 the file of tokens can't be written, 10 it is broken.
    """
    from llmctl.workspace import tokens

    out = Output("token revoke", as_json=json)
    tokens.revoke(name)
    left = len(tokens.read())
    out.note(f"Revoked {name}. {number_of(left, 'token is', 'tokens are')} left.")
    out.data({"name": name, "left": left})


def _duration_s(expires: str) -> float:
    from llmctl.errors import UsageError
    from llmctl.units import duration_s

    try:
        seconds = duration_s(expires)
    except ValueError:
        seconds = 0
    if not 0 < seconds < float("inf"):
        raise UsageError(f"--expires {expires!r} is no duration: 45m, 12h or 30d", hint="llmctl token add --help")
    return seconds


def _row(token: AccessToken) -> dict[str, object]:
    """What the documents hold of a token: all but its sha256."""
    from llmctl.struct import asdict

    kept = asdict(token)
    del kept["sha256"]
    return {**kept, "expired": token.has_expired()}


def _shown(token: AccessToken) -> tuple[str, ...]:
    limits = (token.requests_per_minute, token.tokens_per_minute)
    expires = "never" if token.expires is None else token.expires + (" (expired)" if token.has_expired() else "")
    return (
        token.name,
        token.created,
        expires,
        ", ".join(token.models) or "all",
        *("no limit" if limit is None else f"{limit:,}" for limit in limits),
    )
