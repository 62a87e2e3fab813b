"""Where things live. XDG variables win on every system; platformdirs knows the rest."""

from __future__ import annotations

import os
from pathlib import Path

APP = "llmctl"


def _xdg(variable: str, otherwise: str) -> Path:
    value = os.environ.get(variable, "")
    if value and Path(value).is_absolute():  # a relative path is to be ignored, says the XDG specification
        return Path(value) / APP
    import platformdirs

    return Path(getattr(platformdirs, otherwise)(APP, appauthor=False))


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


def hub_cache() -> Path:
    """The model hub's own cache, shared with every tool that uses it (HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME)."""
    if explicit := os.environ.get("HF_HUB_CACHE"):
        return Path(explicit).expanduser()
    return _hub_home() / "hub"


def hub_token_file() -> Path:
    """Where the model hub's own tools keep the user's token (HF_TOKEN_PATH, HF_HOME, XDG_CACHE_HOME)."""
    if explicit := os.environ.get("HF_TOKEN_PATH"):
        return Path(explicit).expanduser()
    return _hub_home() / "token"


def _hub_home() -> Path:
    if home := os.environ.get("HF_HOME"):
        return Path(home).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "huggingface"


def profiles_dir() -> Path:
    """The data that ships with llmctl: inside the package when installed, beside it in a checkout."""
    inside = Path(__file__).parent / "profiles"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "profiles"
