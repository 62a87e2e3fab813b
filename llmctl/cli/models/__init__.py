"""``llmctl models``: what is on this machine, whose it is, and what there is to be had."""

from __future__ import annotations

import typer

from llmctl.cli.models import listing, refresh, removal, search, show, verify

__all__ = ["app"]

app = typer.Typer(name="models", help="The models on this machine, and those of the catalogue.", no_args_is_help=True)
app.command("list")(listing.list_)
app.command()(search.search)
app.command()(show.show)
app.command()(refresh.refresh)
app.command()(removal.rm)
app.command()(verify.verify)
app.command()(removal.prune)
