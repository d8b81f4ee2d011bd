"""Functions in Python, asked for in a chat: MBPP and HumanEval."""

from __future__ import annotations

from qdmerge_llm.tasks.coding._humaneval import HumanEvalTask
from qdmerge_llm.tasks.coding._mbpp import MBPPTask
from qdmerge_llm.tasks.coding._reading import completed, extract_code
from qdmerge_llm.tasks.coding._task import CodingTask

__all__ = ["CodingTask", "HumanEvalTask", "MBPPTask", "completed", "extract_code"]
