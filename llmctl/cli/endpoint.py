"""``llmctl endpoint``: the user's own private servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from llmctl.cli import complete, lazy
from llmctl.cli.output import Output
from llmctl.shell import command

if TYPE_CHECKING:
    from llmctl.workspace.endpoints import Added

app = lazy.plain(help="Servers of your own that may answer when this machine can't.", no_args_is_help=True)

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
    from llmctl.workspace import endpoints

    out = Output("endpoint add", as_json=json)
    added = endpoints.add(out, name, url, model=model, key_env=key_env, ca_file=ca_file, force=force)
    endpoint, policy = added.endpoint, added.settings.policy
    out.note(f"Added {name}: {model} at {added.host}. Policy: {policy}. Kept in {added.file}.")
    _what_it_means(out, added)
    row = {"name": name, "url": endpoint.url, "model": model, "key_env": key_env, "ca_file": endpoint.ca_file}
    out.data({**row, "policy": policy})


def _what_it_means(out: Output, added: Added) -> None:
    """Says when prompts will go to the server that was added, and the next command."""
    import os

    from llmctl.types.endpoint import Policy

    loaded, name = added.settings, added.endpoint.name
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
        only = "" if first == name else f"; {name} is asked with --endpoint {name}"
        out.note(f"  {when} {first}{only}.")
        out.note(f"  next: {command('llmctl', 'run', '--endpoint', name, 'Hello')}")


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
            "name": endpoint.name,
            "url": endpoint.url,
            "model": endpoint.model,
            "key_env": endpoint.key_env,
            "key_set": bool(os.environ.get(endpoint.key_env)) if endpoint.key_env else None,
            "ca_file": endpoint.ca_file,
            "plain_http": endpoint.plain_http,
        }
        for endpoint in loaded.endpoints
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
    from llmctl.workspace import endpoints

    out = Output("endpoint remove", as_json=json)
    policy = endpoints.remove(out, name).policy
    out.note(f"Removed {name}. Policy: {policy}.")
    out.data({"name": name, "policy": policy})
