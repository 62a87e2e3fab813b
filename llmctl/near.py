"""Names that are spelt much like one that names nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

MOST = 3
LIKENESS = 0.5  # of difflib's ratio: half of the letters, in order


def near(
    name: str,
    names: Iterable[str],
    *,
    key: Callable[[str], str] = str.lower,
    most: int = MOST,
    likeness: float = LIKENESS,
    inside: bool = False,
) -> list[str]:
    """At most ``most`` of ``names`` whose ``key`` has at least this ``likeness`` (0 to 1) to that of ``name``, the
    most alike first. ``inside``: before them those that contain ``name``."""
    import difflib

    wanted, by_key = key(name), {key(each): each for each in names}
    keys = [each for each in by_key if wanted in each] if inside and wanted else []
    keys += difflib.get_close_matches(wanted, by_key, n=most, cutoff=likeness)
    return [by_key[each] for each in dict.fromkeys(keys)][:most]


def likeness(name: str, other: str) -> float:
    """How much two names are alike, from 0 to 1."""
    import difflib

    return difflib.SequenceMatcher(None, name, other).ratio()


def did_you_mean(names: Sequence[str]) -> str:
    """The end of a message that a name means nothing: "; did you mean a or b?"; nothing without ``names``."""
    return f"; did you mean {' or '.join(names)}?" if names else ""
