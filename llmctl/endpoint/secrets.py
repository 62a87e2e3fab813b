"""Where an endpoint's key comes from: the environment variable whose name is configured, never a file of ours."""

from __future__ import annotations

import os

from llmctl.endpoint.client import normal_url
from llmctl.errors import AccessError, ConfigError, UsageError
from llmctl.types.endpoint import Address, Endpoint


def address_of(endpoint: Endpoint) -> Address:
    """The endpoint with its key. Raises AccessError when the variable that should hold it is empty or can't be a
    key, ConfigError when its address, perhaps edited by hand, can't be used.
    """
    token = None
    if endpoint.key_env:
        token = os.environ.get(endpoint.key_env, "").strip() or None
        if token is None:
            raise AccessError(
                f"the key of {endpoint.name} should be in {endpoint.key_env}, which is not set",
                hint=f"export {endpoint.key_env}=…",
            )
        if not (token.isascii() and token.isprintable()) or " " in token:  # it would break the header, or leak by it
            raise AccessError(
                f"{endpoint.key_env} does not hold a key for {endpoint.name}: there are blanks, line ends or letters "
                "beyond ASCII in it",
                hint=f"export {endpoint.key_env}=…",
            )
    try:
        url = normal_url(endpoint.url)
    except UsageError as error:
        raise ConfigError(f"endpoint {endpoint.name}: {error.message}", hint=error.hint) from error
    return Address(url=url, model=endpoint.model, token=token, ca_file=endpoint.ca_file)
