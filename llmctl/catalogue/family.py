"""Links each model of a family to the others that have benchmark results."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from llmctl.types.model import Model, Relative


def related(models: Sequence[Model]) -> list[Model]:
    """``models`` of one family, each with its relatives: the others that have published results. A distilled model and
    one that isn't are no relatives."""
    tested = [
        (model, Relative(model.name, model.size, model.thinking, model.released, model.evidence))
        for model in sorted(models, key=lambda member: (member.size or 0, member.id))
        if model.evidence and model.size is not None
    ]
    return [
        replace(
            model,
            relatives=tuple(
                relative
                for other, relative in tested
                if other is not model and (other.distilled_from is None) == (model.distilled_from is None)
            ),
        )
        for model in models
    ]
