"""Making experts: LoRA fine-tuning of a base on conversations (extra ``train``)."""

from ._config import LoRAConfig, completed
from ._state import RECORD
from ._train import train_lora

__all__ = ["RECORD", "LoRAConfig", "completed", "train_lora"]
