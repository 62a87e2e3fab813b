"""What the European Open Source AI Index grades of a model, and what one may ask for: names without any data."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

DIMENSIONS = {
    "weights_basemodel": "base weights",
    "weights_endmodel": "weights",
    "datasources_basemodel": "training data",
    "datasources_endmodel": "tuning data",
    "trainingcode": "training code",
    "code": "code documentation",
    "hardware_architecture": "hardware documentation",
    "preprint": "preprint",
    "paper": "peer-reviewed paper",
    "modelcard": "model card",
    "datasheet": "data sheet",
    "licenses": "licences",
}
"""The index's own name of each dimension, and its name in words."""


class Level(StrEnum):
    """What ``--open`` asks for; each level includes those above it in this list.

    ``WEIGHTS``: ``weights_endmodel`` is open, so that anybody may fetch the model that is run. Most models are that.
    ``DATA``: also ``datasources_basemodel`` and ``datasources_endmodel``: what it was trained and tuned on can be
    inspected. ``FULL``: also ``weights_basemodel``, ``trainingcode`` and ``licenses``: it can be made again, and used
    under a licence that the index calls open. Papers, cards and documentation are no part of any level.

    A dimension counts when its grade is ``open``: neither ``partial`` nor missing will do.
    """

    WEIGHTS = "weights"
    DATA = "data"
    FULL = "full"


NEEDED: Mapping[Level, frozenset[str]] = {
    Level.WEIGHTS: frozenset({"weights_endmodel"}),
    Level.DATA: frozenset({"weights_endmodel", "datasources_basemodel", "datasources_endmodel"}),
    Level.FULL: frozenset(
        {
            *("weights_endmodel", "datasources_basemodel", "datasources_endmodel"),
            *("weights_basemodel", "trainingcode", "licenses"),
        }
    ),
}
