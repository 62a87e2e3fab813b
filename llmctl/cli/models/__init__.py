"""``llmctl models``: what is on this machine, whose it is, and what there is to be had."""

from __future__ import annotations

from llmctl.cli import lazy

__all__ = ["app"]

app = lazy.application(
    {
        "list": "llmctl.cli.models.listing:list_",
        "search": "llmctl.cli.models.search:search",
        "show": "llmctl.cli.models.show:show",
        "refresh": "llmctl.cli.models.refresh:refresh",
        "rm": "llmctl.cli.models.removal:rm",
        "verify": "llmctl.cli.models.verify:verify",
        "prune": "llmctl.cli.models.removal:prune",
    },
    name="models",
    help="The models on this machine, and those of the catalogue.",
    no_args_is_help=True,
)
