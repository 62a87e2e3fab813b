"""``llmctl endpoint``: the user's own private servers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from llmctl.cli import complete, lazy
from llmctl.cli.output import Output
from llmctl.errors import UsageError
from llmctl.shell import command

if TYPE_CHECKING:
    from pathlib import Path

    from llmctl.settings import Settings
    from llmctl.types.endpoint import Endpoint

app = lazy.plain(help="Servers of your own that may answer when this machine can't.", no_args_is_help=True)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")  # most keys have small letters, and would pass for a name

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="A short name of your choice.")],
    url: Annotated[str, typer.Argument(help="Base address of an OpenAI-compatible server, with or without /v1.")],
    model: Annotated[str, typer.Option("--model", "-m", help="The model's name on that server.")],
    key_env: Annotated[
        str | None, typer.Option("--key-env", help="Environment variable that holds the key (not the key).")
    ] = None,
    ca_file: Annotated[str | None, typer.Option("--ca-file", help="PEM file of a private CA.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Allow plain http to another machine; replace.")] = False,
    json: Json = False,
) -> None:
    """Add a server of your own. This is your consent to send prompts there.

    \b
    Example:
      llmctl endpoint add office https://llm.example.internal --model qwen3-32b --key-env OFFICE_KEY

    Unless you have set a policy, it is prefer-local from then on: this machine answers whatever it can. A prompt goes
    to the first server that was added when no model fits, or the one that llmctl has chosen can't be loaded, fails
    before its first word, or has less context than the prompt needs; with a line on stderr before anything leaves. What
    you name with -m answers here or not at all, and --offline keeps everything on this machine. A policy that you have
    set stays; with local-only nothing goes to any server. Nothing is sent now.

    Exit codes: 0 added, 2 not usable as given, 7 another process keeps the configuration locked, 10 the configuration
    is broken, 11 plain http to another machine.
    """
    import os
    from pathlib import Path

    from llmctl import settings
    from llmctl.endpoint.address import normal_url
    from llmctl.endpoint.secrets import is_private, readable_on_the_way
    from llmctl.net import host_of
    from llmctl.types.endpoint import Endpoint
    from llmctl.workspace.configuration import load

    out = Output("endpoint add", as_json=json)
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r} can't be a name: letters, digits, dot, dash and underscore, at most 64")
    if not model.strip():
        raise UsageError("--model must name the model on that server", hint="llmctl endpoint add --help")
    if key_env is not None and key_env not in os.environ and not VARIABLE.fullmatch(key_env):
        # It may well be the key itself, so it is not repeated.
        raise UsageError(
            "--key-env takes the name of an environment variable (in capitals, or one that is set), not the key",
            hint="export OFFICE_KEY=…; llmctl endpoint add … --key-env OFFICE_KEY",
        )
    address = normal_url(url)
    plain_http = not is_private(address)
    if plain_http and not force:
        raise readable_on_the_way(address, hint="use https, or add --force if the way is private (a VPN, a tunnel)")
    if ca_file is not None:
        if not Path(ca_file).is_file():
            raise UsageError(f"there is no file {ca_file}")
        ca_file = str(Path(ca_file).resolve())
    load(out)  # a file with something wrong in it is not written to
    file = settings.add_endpoint(Endpoint(name, address, model, key_env, ca_file, plain_http), replacing=force)
    loaded = settings.load()
    out.note(f"Added {name}: {model} at {host_of(address)}. Policy: {loaded.policy}. Kept in {file}.")
    _what_it_means(out, loaded, loaded.endpoint(name), file)
    row = {"name": name, "url": address, "model": model, "key_env": key_env, "ca_file": ca_file}
    out.data({**row, "policy": loaded.policy})


def _what_it_means(out: Output, loaded: Settings, added: Endpoint, file: Path) -> None:
    """Says when prompts will go to the server that was added, and the next command."""
    import os

    from llmctl.net import is_loopback
    from llmctl.types.endpoint import Policy

    if loaded.policy is Policy.LOCAL_ONLY and os.environ.get("LLMCTL_POLICY"):
        out.note("  next: export LLMCTL_POLICY=prefer-local, or every prompt stays on this machine")
    elif loaded.policy is Policy.LOCAL_ONLY:
        out.note(f'  next: set policy = "prefer-local" in {file}, or every prompt stays on this machine')
    elif loaded.offline and not is_loopback(added.url):
        out.note("  llmctl is set to stay offline, so every prompt stays on this machine")
    else:
        first = loaded.endpoints[0].name
        when = {
            Policy.PREFER_LOCAL: "What this machine can't answer goes to",
            Policy.PREFER_REMOTE: "Every prompt goes first to",
            Policy.REMOTE_ONLY: "Every prompt goes to",
        }[loaded.policy]
        only = "" if first == added.name else f"; {added.name} is asked with --endpoint {added.name}"
        out.note(f"  {when} {first}{only}.")
        out.note(f"  next: {command('llmctl', 'run', '--endpoint', added.name, 'Hello')}")


@app.command(name="list")
def list_(json: Json = False) -> None:
    """Show the servers there are, which variable holds each key, and the policy. Nothing is sent.

    Exit codes: 0, 10 the configuration is broken.
    """
    import os

    from llmctl.workspace.configuration import load

    out = Output("endpoint list", as_json=json)
    loaded = load(out)
    rows = [
        {
            "name": one.name,
            "url": one.url,
            "model": one.model,
            "key_env": one.key_env,
            "key_set": bool(os.environ.get(one.key_env)) if one.key_env else None,
            "ca_file": one.ca_file,
            "plain_http": one.plain_http,
        }
        for one in loaded.endpoints
    ]
    if not rows:
        out.note("No endpoint is configured: every prompt stays on this machine.")
        out.note("  next: llmctl endpoint add NAME URL --model MODEL")
    for row in rows:
        key = "no key" if not row["key_env"] else f"key in {row['key_env']}{'' if row['key_set'] else ' (not set)'}"
        out.text(f"{row['name']}\t{row['model']}\t{row['url']}\t{key}")
    if rows:
        out.note(f"Policy: {loaded.policy}")
    out.data({"endpoints": rows, "policy": loaded.policy})


@app.command()
def remove(
    name: Annotated[str, typer.Argument(help="The endpoint's name.", autocompletion=complete.endpoints)],
    json: Json = False,
) -> None:
    """Forget a server. When none is left, every prompt stays on this machine.

    Exit codes: 0, 4 no endpoint of that name, 7 another process keeps the configuration locked, 10 the configuration is
    broken.
    """
    from llmctl import settings
    from llmctl.workspace.configuration import load

    out = Output("endpoint remove", as_json=json)
    load(out).endpoint(name)
    settings.remove_endpoint(name)
    loaded = settings.load()
    out.note(f"Removed {name}. Policy: {loaded.policy}.")
    out.data({"name": name, "policy": loaded.policy})
