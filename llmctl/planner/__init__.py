"""What will run, where, how much memory it takes and how fast it will be."""

from llmctl.planner.choose import plan
from llmctl.planner.document import candidate_document

__all__ = ["candidate_document", "plan"]
