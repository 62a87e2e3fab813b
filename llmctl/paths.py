"""Where things live. XDG variables win on every system; platformdirs knows the rest."""

from __future__ import annotations

import os
from pathlib import Path

from llmctl.errors import ConfigError

APP = "llmctl"
HUB_TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")  # the second is the older name


def _xdg(variable: str, otherwise: str) -> Path:
    value = os.environ.get(variable, "")
    if value and Path(value).is_absolute():  # a relative path is to be ignored, says the XDG specification
        return Path(value) / APP
    import platformdirs

    home()  # what platformdirs raises without one has no words for a person
    return Path(getattr(platformdirs, otherwise)(APP, appauthor=False))


def home() -> Path:
    """The user's home folder. Raises ConfigError where there is none."""
    place = os.path.expanduser("~")  # noqa: PTH111  pathlib raises RuntimeError
    if os.path.isabs(place):  # noqa: PTH117
        return Path(place)
    why = f"HOME is {place!r}, which is no absolute path"
    if "HOME" not in os.environ:
        why = f"HOME is not set, and user {os.getuid()} has no entry in the passwd file"
    instead = "export HOME=/path   or all of XDG_CONFIG_HOME, XDG_DATA_HOME, XDG_CACHE_HOME"
    raise ConfigError(f"there is no home folder: {why}", hint=instead)


def expanded(text: str) -> Path:
    """The path that a variable or setting holds, ``~`` and variables in it replaced. Raises ConfigError for a ``~``
    where there is no home folder."""
    place = os.path.expandvars(os.path.expanduser(text))  # noqa: PTH111
    if place.startswith("~"):
        home()
    return Path(place)


def config_file() -> Path:
    """The user's ``config.toml``."""
    return _xdg("XDG_CONFIG_HOME", "user_config_dir") / "config.toml"


def overlay_dir() -> Path:
    """The user's own model files, TOML like ``profiles/models``."""
    return config_file().parent / "models"


def data_dir() -> Path:
    """Models that did not come from the hub, and what must outlive a cache clean-up."""
    return _xdg("XDG_DATA_HOME", "user_data_dir")


def cache_dir() -> Path:
    """What can be measured or fetched again."""
    return _xdg("XDG_CACHE_HOME", "user_cache_dir")


def state_dir() -> Path:
    """What llmctl notes of its own work, and nobody misses: logs."""
    return _xdg("XDG_STATE_HOME", "user_state_dir")


def runtime_dir() -> Path:
    """What is true until the machine starts anew: the addresses of engines that stay loaded."""
    value = os.environ.get("XDG_RUNTIME_DIR", "")
    if value and Path(value).is_absolute():
        return Path(value) / APP
    import warnings

    import platformdirs

    with warnings.catch_warnings():  # of a machine where nobody has logged in, as containers are
        warnings.simplefilter("ignore")
        return Path(platformdirs.user_runtime_dir(APP, appauthor=False))


def hub_cache() -> Path:
    """The model hub's own cache, shared with every tool that uses it.

    HF_HUB_CACHE, or as it was called before HUGGINGFACE_HUB_CACHE; else below HF_HOME or XDG_CACHE_HOME.
    """
    if explicit := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return expanded(explicit)
    return _hub_home() / "hub"


def hub_token_file() -> Path:
    """Where the model hub's own tools keep the user's token (HF_TOKEN_PATH, HF_HOME, XDG_CACHE_HOME)."""
    if explicit := os.environ.get("HF_TOKEN_PATH"):
        return expanded(explicit)
    return _hub_home() / "token"


def _hub_home() -> Path:
    if explicit := os.environ.get("HF_HOME"):
        return expanded(explicit)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (expanded(cache) if cache else home() / ".cache") / "huggingface"


def profiles_dir() -> Path:
    """The data that ships with llmctl: inside the package when installed, beside it in a checkout."""
    inside = Path(__file__).parent / "profiles"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "profiles"
