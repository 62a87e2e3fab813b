"""How many examples a property is tried with: a quarter each time, all with ``--hypothesis-profile=thorough``."""

from __future__ import annotations

from typing import Any

import hypothesis

THOROUGH = "thorough"
SHARE = 4


def register() -> None:
    """Both profiles; the short one is used unless the command line names the other."""
    hypothesis.settings.register_profile("here", database=None)  # nothing is written into the checkout
    hypothesis.settings.register_profile(THOROUGH, database=None)
    hypothesis.settings.load_profile("here")


def examples(most: int, **more: Any) -> hypothesis.settings:
    """Settings for a property whose examples take long; without a deadline unless ``more`` has one."""
    thorough = hypothesis.settings.get_current_profile_name() == THOROUGH
    return hypothesis.settings(max_examples=most if thorough else -(-most // SHARE), **{"deadline": None, **more})
