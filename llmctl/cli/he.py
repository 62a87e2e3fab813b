"""``llmctl he``: what computing with encrypted numbers can do today, measured here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from llmctl import units
from llmctl.cli import lazy
from llmctl.cli.output import Output

if TYPE_CHECKING:
    from llmctl.workspace.he_demo import EncryptedProduct, PublishedFigure

app = lazy.plain(no_args_is_help=True)
LEFT_OUT = (
    "Left out: softmax, GELU, normalisation, and attention's products of two encrypted vectors. They take "
    "bootstrapping, or the vector goes back to whoever asked after each layer."
)
TODAY = (
    ("this device alone", "llmctl run --local"),
    ("a server of your own", "llmctl endpoint add"),
    ("nobody on the way there reads it", "llmctl endpoint add --seal-key"),
    ("a question that who has the vectors doesn't learn", "llmctl score"),
)


@app.callback()
def he() -> None:
    """Homomorphic encryption: what it can do today."""


@app.command()
def demo(json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False) -> None:
    """Measure one encrypted product of 768 x 768 numbers here, and tell what a token of GPT-2 would take.

    \b
    Examples:
      llmctl he demo

    Takes some ten seconds, and the extra llmctl[he].

    Exit codes: 0 done, 2 the extra is not installed, 8 the product came out wrong.
    """
    from llmctl.workspace import he_demo, score

    out = Output("he demo", as_json=json)
    score.require_encryption()
    product = he_demo.measured()
    for line in _lines(product, he_demo.PUBLISHED, he_demo.SIZE):
        out.text(line)
    out.data(
        {
            "product": product,
            "size": he_demo.SIZE,
            "products_per_token": product.products_per_token,
            "token_s": product.token_s,
            "token_bytes": product.token_bytes,
            "published": he_demo.PUBLISHED,
            "left_out": LEFT_OUT,
            "private_today": [{"what": what, "command": command} for what, command in TODAY],
        }
    )


def _lines(product: EncryptedProduct, published: tuple[PublishedFigure, ...], size: int) -> list[str]:
    sent = f"{units.size(product.question_bytes)} there and {units.size(product.answer_bytes)} back"
    exact = f"exact, {product.noise_budget_bits} bits of noise budget left"
    works = f"{_ms(product.encrypt_s)} to encrypt, {_ms(product.decrypt_s)} to decrypt"
    times = f"{product.products_per_token:.0f} times that"
    return [
        f"A {size} x {size} matrix times an encrypted vector, on this machine (BFV, 128-bit, {exact}):",
        f"  {_ms(product.server_s)} on the server, {works}, {sent}",
        f"  in clear {_ms(product.clear_s)}, by plain Python",
        f"A token of GPT-2 has {times} in its linear layers: {units.seconds(product.token_s)}, and "
        f"{units.size(product.token_bytes)} back.",
        *[
            f"Published: {figure.model}, {figure.seconds:g} s per token on {figure.hardware} ({figure.source})"
            for figure in published
        ],
        LEFT_OUT,
        "What is private today:",
        *[f"  {what}: {command}" for what, command in TODAY],
    ]


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms"
