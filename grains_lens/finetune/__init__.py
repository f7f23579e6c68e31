"""Fine-tuning with LoRA, the yardstick of steering: what the same pairs buy when weights may change."""

from .adapter import LoraAdapter as LoraAdapter
from .training import lora_dpo as lora_dpo
from .training import lora_sft as lora_sft
