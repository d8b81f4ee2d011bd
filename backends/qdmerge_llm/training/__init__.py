"""Making experts: LoRA fine-tuning of a base on conversations (extra ``train``)."""

from qdmerge_llm.training._config import RECORD, LoRAConfig, TrainingConfig, completed
from qdmerge_llm.training._train import train_lora

__all__ = ["RECORD", "LoRAConfig", "TrainingConfig", "completed", "train_lora"]
