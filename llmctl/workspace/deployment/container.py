"""What the deployments in containers have in common: an image of llmctl's own, and the models in a volume."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from llmctl import __version__
from llmctl.workspace.deployment.service import GatewayService

IMAGE = f"localhost/llmctl:{__version__}"
PORT = 8443
DATA = "/home/llmctl"
HEALTH = (  # the certificate is the container's own: what matters is that it answers
    "import ssl,urllib.request as r;"
    f"r.urlopen('https://127.0.0.1:{PORT}/health',context=ssl._create_unverified_context())"
)


def arguments(service: GatewayService, names: Sequence[str]) -> list[str]:
    """Of llmctl in the container, where it listens to all: so with TLS and a token, as it insists on. Others there call
    it by ``names``."""
    given = [argument for argument in without_address(service.arguments) if argument not in ("--yes", "-y")]
    allowed = [word for name in names for word in ("--allow-host", name)]
    return ["serve", *given, "--yes", "--host", "0.0.0.0", "--port", str(PORT), *allowed]  # noqa: S104


def without_address(arguments: tuple[str, ...]) -> list[str]:
    kept, skips = [], False
    for argument in arguments:
        name, _, value = argument.partition("=")
        if skips or name in ("--host", "--port"):
            skips = not skips and not value
            continue
        kept.append(argument)
    return kept


def reasons(service: GatewayService) -> Iterator[str]:
    yield from service.reasons()
    yield f"The image {IMAGE} is yours to build: docs/Containerfile of llmctl's sources. Models are taken from the"
    yield f"volume, or fetched into it on the first start; the certificate and the tokens are in it, too ({DATA})."
    yield "Before the first start, make a token with the same image and volume: llmctl token add NAME   (else it makes"
    yield "one itself, and prints it where the log is)."
