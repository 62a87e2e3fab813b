"""What will run, where, how much memory it takes and how fast it will be."""

from llmctl.planner.choose import plan
from llmctl.planner.judge import Allocations

__all__ = ["Allocations", "plan"]
