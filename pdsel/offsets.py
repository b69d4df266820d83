"""TRL's DPO trainer with an offset per pair inside the sigmoid: `-log sigma(scale * M + offset)`.

TRL has no such column, but shifting the reference log-probability of the chosen response by `-offset / beta` is exact, with
TRL's beta set to `scale * beta`.
"""

import torch
from trl import DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference


class OffsetCollator(DataCollatorForPreference):
    """TRL's collator, carrying the offsets of the batch along."""

    def torch_call(self, examples):
        batch = super().torch_call(examples)
        batch["offset"] = torch.tensor([example["offset"] for example in examples], dtype=torch.float32)
        return batch


class OffsetTrainer(DPOTrainer):
    """TRL's DPO with an offset per pair inside the sigmoid; logs the rewards of the policy, not the shifted ones."""

    scale = 1

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        inputs = dict(inputs)
        offset = inputs.pop("offset")
        inputs["ref_chosen_logps"] = inputs["ref_chosen_logps"] - offset / self.beta
        loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if self.scale != 1 or offset.any():
            metrics = self._metrics["train" if self.model.training else "eval"]
            shift = self.accelerator.gather_for_metrics(offset).mean().item()
            for name, moved in [("chosen", shift), ("rejected", 0.0), ("margins", shift)]:
                metrics[f"rewards/{name}"][-1] = (metrics[f"rewards/{name}"][-1] - moved) / self.scale
            metrics.pop("rewards/accuracies", None)  # it counts kappa * M + PD > 0, which is nobody's accuracy
        return loss
