"""Kinds of tasks for language models."""

from __future__ import annotations

from qdmerge.parts import Entry, Registry
from qdmerge_llm.items import Item
from qdmerge_llm.tasks._executed import ExecutedTask
from qdmerge_llm.tasks._kind import (
    Episode,
    EpisodeTask,
    Generate,
    Message,
    Prompt,
    TaskKind,
    extract,
    replay,
)
from qdmerge_llm.tasks._lm_eval import LMEvalTask
from qdmerge_llm.tasks._plain import PythonTask, ShellTask
from qdmerge_llm.tasks.coding import HumanEvalTask, MBPPTask
from qdmerge_llm.tasks.database import AgentBenchDBTask, SqlTask
from qdmerge_llm.tasks.system import AgentBenchOSTask

KINDS = Registry(
    "task kind",
    context=("sandbox",),
    entries={
        "agentbench_db": Entry(
            "qdmerge_llm.tasks:AgentBenchDBTask", "AgentBench: questions on a database, in turns"
        ),
        "agentbench_os": Entry(
            "qdmerge_llm.tasks:AgentBenchOSTask", "AgentBench: a shell in a throw-away system"
        ),
        "humaneval": Entry("qdmerge_llm.tasks:HumanEvalTask", "HumanEval, asked in a chat"),
        "lm_eval": Entry("qdmerge_llm.tasks:LMEvalTask", "any task of lm-eval (for reporting)"),
        "mbpp": Entry("qdmerge_llm.tasks:MBPPTask", "MBPP and MBPP+ in EvalPlus rows"),
        "python": Entry("qdmerge_llm.tasks:PythonTask", "functions against unit tests"),
        "sql": Entry("qdmerge_llm.tasks:SqlTask", "SELECTs on SQLite against a reference query"),
        "shell": Entry("qdmerge_llm.tasks:ShellTask", "shell commands against their output"),
    },
)

__all__ = [
    "KINDS",
    "AgentBenchDBTask",
    "AgentBenchOSTask",
    "Episode",
    "EpisodeTask",
    "ExecutedTask",
    "Generate",
    "HumanEvalTask",
    "Item",
    "LMEvalTask",
    "MBPPTask",
    "Message",
    "Prompt",
    "PythonTask",
    "ShellTask",
    "SqlTask",
    "TaskKind",
    "extract",
    "replay",
]
