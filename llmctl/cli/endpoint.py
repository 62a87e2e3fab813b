"""``llmctl endpoint``: the user's own private servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from llmctl.cli import complete, lazy
from llmctl.cli.output import Output
from llmctl.cli.table import table
from llmctl.shell import command

if TYPE_CHECKING:
    from llmctl.types.endpoint import Endpoint
    from llmctl.workspace.endpoints import Added

app = lazy.plain(help="Servers of your own that may answer when this machine can't.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="A short name of your choice.")],
    url: Annotated[str, typer.Argument(help="Base address of an OpenAI-compatible server, with or without /v1.")],
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="The model's name on that server; its only one if left out.")
    ] = None,
    key_env: Annotated[
        str | None, typer.Option("--key-env", help="Environment variable that holds the key (not the key).")
    ] = None,
    key_file: Annotated[
        str | None, typer.Option("--key-file", help="File with the key that only you can read.")
    ] = None,
    key_keyring: Annotated[
        str | None, typer.Option("--key-keyring", help="The keyring's entry, SERVICE/USER or USER of llmctl.")
    ] = None,
    key_cmd: Annotated[str | None, typer.Option("--key-cmd", help="Command whose first line is the key.")] = None,
    ca_file: Annotated[str | None, typer.Option("--ca-file", help="PEM file of a private CA.")] = None,
    pin: Annotated[str | None, typer.Option("--pin", help="The key of its certificate, sha256:…, as trusted.")] = None,
    client_cert: Annotated[
        str | None, typer.Option("--client-cert", help="PEM file of the certificate that it wants of you.")
    ] = None,
    client_key: Annotated[
        str | None, typer.Option("--client-key", help="PEM file of its key, that only you can read.")
    ] = None,
    proxy: Annotated[str | None, typer.Option("--proxy", help="The way there, in place of HTTPS_PROXY.")] = None,
    context: Annotated[int | None, typer.Option("--context", min=1, help="Tokens that it takes.")] = None,
    connect_s: Annotated[float | None, typer.Option("--connect-s", min=0.1, help="Seconds to connect.")] = None,
    first_token_s: Annotated[
        float | None, typer.Option("--first-token-s", min=0.1, help="Seconds to the first word of an answer.")
    ] = None,
    between_s: Annotated[
        float | None, typer.Option("--between-s", min=0.1, help="Seconds from one word to the next.")
    ] = None,
    silent_s: Annotated[
        float | None, typer.Option("--silent-s", min=0.1, help="Seconds without a byte before the first word.")
    ] = None,
    priority: Annotated[int, typer.Option("--priority", min=0, help="The highest is asked first.")] = 0,
    price_in: Annotated[float | None, typer.Option("--price-in", min=0, help="Of a million prompt tokens.")] = None,
    price_out: Annotated[float | None, typer.Option("--price-out", min=0, help="Of a million answer tokens.")] = None,
    continues: Annotated[
        bool, typer.Option("--continues", help="It may go on with an answer that broke off elsewhere.")
    ] = False,
    readers: Annotated[
        str | None, typer.Option("--readers", help="Who can read prompts there: shown whenever one leaves.")
    ] = None,
    seal_key: Annotated[
        str | None, typer.Option("--seal-key", help="llmctl-key:…: send nothing that isn't sealed for this key.")
    ] = None,
    pad: Annotated[
        int | None,
        typer.Option("--pad", min=1, help="Sealed requests are multiples of so many bytes."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Allow plain http to another machine; replace.")] = False,
    json: Json = False,
) -> None:
    """Add a server of your own. This is your consent to send prompts there.

    \b
    Examples:
      llmctl endpoint add office https://llm.example.internal --key-env OFFICE_KEY
      llmctl endpoint add desk https://192.0.2.10 --key-cmd 'pass show desk'
      llmctl endpoint add desk https://192.0.2.10 --seal-key llmctl-key:AQAgOd…

    Unless you have set a policy, it is prefer-local from then on: this machine answers whatever it can. A prompt goes
    to the server of the highest priority, of several to the one that was added first, when no model fits, or the one
    that llmctl has chosen can't be loaded, fails before its first word, or has less context than the prompt needs; with
    a line on stderr before anything leaves. What you name with -m answers here or not at all, and --offline keeps
    everything on this machine. A policy that you have set stays; with local-only nothing goes to any server.

    A server that fails before its first word hands over to the next, and rests for a while after two failures; those
    of the same model and priority share the work. After its first word only one with --continues goes on with the
    answer (`llmctl endpoint test` says whether it can).

    With --seal-key (the line that `llmctl serve --sealed` shows; it takes the extra llmctl[sealed]) a proxy on the way
    reads neither prompt nor answer, key or path. A key that the server doesn't have is an error: nothing goes in clear.

    No prompt is sent now. At a terminal the server's certificate is looked at: if no authority vouches for it, you are
    shown its key and asked, as ssh does. There, and where --model is left out, the server is asked for its models,
    by which vLLM, SGLang, llm-d, Ray Serve, LiteLLM, ollama and others are recognised.

    Exit codes: 0 added, 2 not usable as given, 5 the server can't be asked or is not trusted, 7 another process keeps
    the configuration locked, 9 the key is missing, 10 the configuration is broken, 11 plain http to another machine.
    """
    from llmctl.errors import UsageError
    from llmctl.types.endpoint import ClientCertificate, Limits, Price, Trust
    from llmctl.workspace import endpoint_key, endpoints

    out = Output("endpoint add", as_json=json)
    if (client_cert is None) != (client_key is None):
        raise UsageError("--client-cert and --client-key go together", hint="llmctl endpoint add --help")
    client = None if client_cert is None or client_key is None else ClientCertificate(client_cert, client_key)
    added = endpoints.add(
        out,
        name,
        url,
        model=model,
        key=endpoint_key.reference(key_env=key_env, key_file=key_file, key_keyring=key_keyring, key_command=key_cmd),
        trust=Trust(ca_file, pin, client),
        limits=Limits(context, connect_s, first_token_s, between_s, silent_s),
        priority=priority,
        readers=readers,
        proxy=proxy,
        price=None if price_in is None and price_out is None else Price(price_in or 0.0, price_out or 0.0),
        continues=continues,
        seal=endpoints.seal(seal_key, pad),
        force=force,
    )
    endpoint, policy = added.endpoint, added.settings.policy
    out.note(f"Added {name}: {endpoint.model} at {added.host}. Policy: {policy}. Kept in {added.file}.")
    _what_it_means(out, added)
    out.data({**endpoints.row(endpoint), "policy": policy})


def _what_it_means(out: Output, added: Added) -> None:
    """Says when prompts will go to the server that was added, and the next command."""
    import os

    from llmctl.types.endpoint import KeyVariable
    from llmctl.types.policy import Policy
    from llmctl.workspace import endpoint_key

    loaded, name, key = added.settings, added.endpoint.name, added.endpoint.key
    if isinstance(key, KeyVariable) and not endpoint_key.is_set(key):
        out.note(f"  {key.name} is not set yet: export {key.name}=…")
    if loaded.policy is Policy.LOCAL_ONLY and os.environ.get("LLMCTL_POLICY"):
        out.note("  next: export LLMCTL_POLICY=prefer-local, or every prompt stays on this machine")
    elif loaded.policy is Policy.LOCAL_ONLY:
        out.note(f'  next: set policy = "prefer-local" in {added.file}, or every prompt stays on this machine')
    elif loaded.offline and not added.is_on_this_machine:
        out.note("  llmctl is set to stay offline, so every prompt stays on this machine")
    else:
        first = loaded.endpoints[0].name
        when = {
            Policy.PREFER_LOCAL: "What this machine can't answer goes to",
            Policy.PREFER_REMOTE: "Every prompt goes first to",
            Policy.REMOTE_ONLY: "Every prompt goes to",
        }[loaded.policy]
        only = "" if first == name else f"; {name} comes after it"
        out.note(f"  {when} {first}{only}.")
        out.note(f"  next: {command('llmctl', 'run', '--endpoint', name, 'Hello')}")


@app.command(name="list")
def list_(json: Json = False) -> None:
    """Show the servers there are, the one that prompts go to first, where each key is, and the policy. Nothing is sent.

    Exit codes: 0, 10 the configuration is broken.
    """
    from llmctl.workspace import endpoint_key, endpoints
    from llmctl.workspace.configuration import load

    out = Output("endpoint list", as_json=json)
    loaded = load(out)
    if not loaded.endpoints:
        out.note("No endpoint is configured: every prompt stays on this machine.")
        out.note("  next: llmctl endpoint add NAME URL --model MODEL")
    for line in table(
        [
            (endpoint.name, endpoint.model, endpoint.url, endpoint_key.words(endpoint.key))
            for endpoint in loaded.endpoints
        ],
        "<<<<",
    ):
        out.text(line)
    if loaded.endpoints:
        out.note(f"Policy: {loaded.policy}")
    out.data({"endpoints": [endpoints.row(endpoint) for endpoint in loaded.endpoints], "policy": loaded.policy})


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="The endpoint's name.", autocompletion=complete.endpoints)],
    json: Json = False,
) -> None:
    """Show all that is kept of a server: address, model, where its key is, what is trusted, limits. Nothing is sent.

    Exit codes: 0, 4 no endpoint of that name, 10 the configuration is broken.
    """
    from llmctl.workspace import endpoints
    from llmctl.workspace.configuration import load

    out = Output("endpoint show", as_json=json)
    loaded = load(out)
    endpoint = loaded.endpoint(name)
    for label, value in _facts(endpoint, is_first=loaded.endpoints[0].name == name):
        out.text(f"{label:<10} {value}")
    out.note(f"  next: {command('llmctl', 'endpoint', 'test', names=[name])}")
    out.data({**endpoints.row(endpoint), "policy": loaded.policy})


def _facts(endpoint: Endpoint, *, is_first: bool) -> list[tuple[str, str]]:
    from llmctl.workspace import endpoint_key, endpoints

    trust, limits = endpoint.trust, endpoint.limits
    proofs = [f"certificates of {trust.ca_file}"] if trust.ca_file else []
    proofs += [f"the key {trust.pin}"] if trust.pin else []
    https = " and ".join(proofs) or "the system's authorities"
    consent = "nothing: you agreed to plain http" if endpoint.plain_http else "nothing: plain http on this machine"
    seconds = {
        "to connect": limits.connect_s,
        "first word": limits.first_token_s,
        "between words": limits.between_s,
        "silent": limits.silent_s,
    }
    given = [f"{label} {value:g} s" for label, value in seconds.items() if value]
    given += [f"{limits.context:,} tokens of context"] if limits.context else []
    facts = [
        ("name", endpoint.name),
        ("address", endpoint.url),
        ("model", endpoint.model),
        ("key", endpoint_key.words(endpoint.key).removeprefix("key in ")),
        ("trusted", https if endpoint.url.startswith("https:") else consent),
        ("limits", ", ".join(given) or "llmctl's own"),
        ("readers", endpoint.readers or "not said"),
        ("order", "asked first" if is_first else "asked when those before it fail"),
    ]
    if trust.client is not None:
        facts.append(("shows", f"the certificate {trust.client.cert_file}"))
    if endpoint.proxy is not None:
        facts.append(("proxy", endpoint.proxy))
    if endpoint.seal is not None:
        facts.append(("sealed", endpoints.seal_words(endpoint.seal)))
    if endpoint.price is not None:
        facts.append(("price", f"{endpoint.price.prompt:g} in, {endpoint.price.answer:g} out, for a million tokens"))
    return [*facts, ("continues", "answers that broke off elsewhere" if endpoint.continues else "nothing")]


@app.command()
def test(
    name: Annotated[str, typer.Argument(help="The endpoint's name.", autocompletion=complete.endpoints)],
    json: Json = False,
) -> None:
    """Look at a server: its name, certificate, key, models, program, context, a short answer, tools, JSON schemas,
    and whether it goes on with an answer that was begun. Sends a few words of llmctl's own, none of yours, and asks for
    64 tokens at most each time.

    Exit codes: 0 it can be used, 2 to 11 as the first thing that fails, which is the last line.
    """
    from llmctl.cli.doctor import finding
    from llmctl.types.finding import Check
    from llmctl.workspace import endpoints

    out = Output("endpoint test", as_json=json)
    checks: list[Check] = []

    def tell(check: Check) -> None:
        checks.append(check)
        if not json:
            finding(out, check)

    error = endpoints.try_out(out, name, tell)
    data = {"name": name, "checks": checks}
    if error is None:
        out.data(data)
        return
    out.data(data, error)
    raise typer.Exit(error.exit_code)


@app.command()
def default(
    name: Annotated[str, typer.Argument(help="The endpoint's name.", autocompletion=complete.endpoints)],
    json: Json = False,
) -> None:
    """Let this server be asked before the others, which are asked when it fails.

    Exit codes: 0, 4 no endpoint of that name, 7 another process keeps the configuration locked, 10 the configuration is
    broken.
    """
    from llmctl.workspace import endpoints

    out = Output("endpoint default", as_json=json)
    loaded = endpoints.prefer(out, name)
    out.note(f"{name} is asked first. Policy: {loaded.policy}.")
    out.data({"name": name, "endpoints": [endpoint.name for endpoint in loaded.endpoints], "policy": loaded.policy})


@app.command()
def remove(
    name: Annotated[str, typer.Argument(help="The endpoint's name.", autocompletion=complete.endpoints)],
    json: Json = False,
) -> None:
    """Forget a server. When none is left, every prompt stays on this machine.

    Exit codes: 0, 4 no endpoint of that name, 7 another process keeps the configuration locked, 10 the configuration is
    broken.
    """
    from llmctl.workspace import endpoints

    out = Output("endpoint remove", as_json=json)
    policy = endpoints.remove(out, name).policy
    out.note(f"Removed {name}. Policy: {policy}.")
    out.data({"name": name, "policy": policy})
