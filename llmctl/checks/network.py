"""Findings about the user's own servers and, where that was asked for, about the model hub."""

from __future__ import annotations

from llmctl import units
from llmctl.checks.surroundings import Surroundings
from llmctl.hub.reachability import Reach
from llmctl.shell import command
from llmctl.types.finding import Check, Status

ANOTHER_WAY = "check the network and HTTPS_PROXY, or use a mirror: export HF_ENDPOINT=https://…"


def checks(around: Surroundings) -> tuple[Check, ...]:
    """Findings for the servers and, if it was asked, for the hub."""
    return (*_endpoints(around), *(_hub(around.reach) if around.reach else ()))


def _endpoints(around: Surroundings) -> list[Check]:
    findings = []
    for server in around.endpoints:
        if server.wrong is not None:
            findings.append(Check("endpoint", Status.WARN, f"{server.name}: {server.wrong}", server.hint))
        elif server.offers is not None and server.model not in server.offers:
            names = ", ".join(server.offers[:5]) or "none"
            message = f"{server.name} answers, but has no model {server.model} (it has: {names})"
            remedy = command("llmctl", "endpoint", "test", names=[server.name])
            findings.append(Check("endpoint", Status.WARN, message, remedy))
        else:
            findings.append(
                Check("endpoint", Status.OK, f"{server.name} ({server.host}) answers in {server.took_s * 1000:.0f} ms")
            )
    return findings


def _hub(reach: Reach) -> list[Check]:
    """Three findings, to tell what fails: the proxy, the certificate, or the hub itself."""
    through = "without a proxy" if reach.proxy is None else f"through the proxy {reach.proxy}"
    findings = [Check("proxy", Status.OK, f"{reach.host} is reached {through}")]
    if reach.untrusted:
        findings.append(Check("ca", Status.WARN, reach.wrong or "", reach.hint))
        why = f"{reach.host} can't be used until its certificate can be verified"
        return [*findings, Check("hub", Status.WARN, why, reach.hint)]
    findings.append(Check("ca", Status.OK, f"certificates are checked against {reach.trust}"))
    if reach.wrong is not None:
        return [*findings, Check("hub", Status.WARN, reach.wrong, reach.hint or ANOTHER_WAY)]
    message = f"{reach.host} answers"
    if reach.bytes_per_s is not None:
        message += f", files come from {reach.file_host} at {units.rate(reach.bytes_per_s)}"
    return [*findings, Check("hub", Status.OK, message)]
