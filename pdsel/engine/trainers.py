"""TRL's trainers with two additions: an offset per pair inside the sigmoid, and steps that are the same however split.

TRL's DPO has no column for an offset. Shifting the reference log-probability of the chosen response by `-offset / beta`
gives `-log sigma(scale * M + offset)` exactly, with TRL's beta set to `scale * beta`.
"""

import math
from dataclasses import replace
from typing import ClassVar

import torch
from datasets import Dataset, concatenate_datasets
from trl import DPOTrainer, RewardTrainer, SFTTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from pdsel.engine.errors import StopsAtNaN
from pdsel.engine.reference_cache import text_key

BLANK = 1e3  # inside the sigmoid: a loss of exactly 0 in float32, and no gradient


class OffsetCollator(DataCollatorForPreference):
    """TRL's collator, carrying the offsets of the batch along."""

    def torch_call(self, examples):
        batch = super().torch_call(examples)
        batch["offset"] = torch.tensor([example["offset"] for example in examples], dtype=torch.float32)
        return batch


class EqualPairs:
    """For a trainer of pairs: every pair of an optimiser step weighs the same, however the step is split.

    A step is split over processes and over rounds of gradient accumulation. The last step of an epoch may be short. Then
    the trainer averages means over unequal numbers of pairs, and accelerate fills the last round up with pairs from the
    start of the epoch. Here these pairs are blanked out, and every part is weighted by its size, so that the loss and its
    gradient are those of one process without accumulation.
    """

    blanked: ClassVar = {"offset": BLANK}  # the column inside the sigmoid, and the value that silences a pair

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        batches, n_items = super().get_batch_samples(epoch_iterator, num_batches, device)
        processes, rounds = self.args.world_size, self.args.gradient_accumulation_steps
        if processes * rounds == 1 or not batches:
            return batches, n_items
        size = self.args.per_device_train_batch_size  # pairs of a process in a round
        per_step, n = size * processes * rounds, len(self.train_dataset)
        steps_per_epoch = math.ceil(n / per_step)
        start = (self.state.global_step % steps_per_epoch) * per_step  # the step's first pair, counted in the epoch
        for turn, batch in enumerate(batches):
            first = start + (turn * processes + self.args.process_index) * size
            for column, value in self.blanked.items():
                batch[column][max(0, n - first) :] = value
                held = len(batch[column])
            batch["weight"] = held * processes * len(batches) / min(per_step, n - start)
        return batches, n_items

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        inputs = dict(inputs)
        weight = inputs.pop("weight", None)
        loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if not self.model.training:
            self._weigh_by_size(len(next(inputs[column] for column in self.blanked)))
        return loss if weight is None else loss * weight

    def _weigh_by_size(self, n):
        """TRL averages the metrics of a held-out set over batches of unequal size; here every pair counts once."""
        for values in self._metrics["eval"].values():
            values.extend(values[-1:] * (n - 1))


class PreciseSums:
    """For a trainer: FSDP in bf16 rounds weights and activations, but neither the model's outputs nor sums of gradients.

    accelerate's own policy rounds the outputs, too, and with them the log-probability of a response. Around -300 the numbers
    of bf16 lie 2 nats apart, and DPO depends on differences of one nat.
    """

    def create_accelerator_and_postprocess(self):
        super().create_accelerator_and_postprocess()
        plugin = getattr(self.accelerator.state, "fsdp_plugin", None)
        policy = getattr(plugin, "mixed_precision_policy", None)
        if policy is not None and plugin.fsdp_version == 2:
            plugin.mixed_precision_policy = replace(policy, output_dtype=None, reduce_dtype=torch.float32)


class OffsetTrainer(StopsAtNaN, EqualPairs, PreciseSums, DPOTrainer):
    """TRL's DPO with an offset per pair inside the sigmoid; it logs the rewards of the policy, not the shifted ones.

    Parameters
    ----------
    scale : float
        The factor of the implicit reward margin inside the sigmoid.
    reference : pdsel.engine.reference_cache.ReferenceCache, optional
        Where precomputed reference log-probabilities are read and kept.
    """

    def __init__(self, *args, scale=1, reference=None, **kwargs):
        self.scale, self.reference = scale, reference
        super().__init__(*args, **kwargs)
        if self._precompute_engine is not None:  # ZeRO-3's engine for the reference: its hooks would trip training's
            self._precompute_engine.destroy()
            self._precompute_engine = None

    def _compute_loss(self, model, inputs, return_outputs):
        inputs = dict(inputs)
        offset = inputs.pop("offset")
        inputs["ref_chosen_logps"] = inputs["ref_chosen_logps"] - offset / self.beta
        loss = super()._compute_loss(model, inputs, return_outputs)
        everyones = self.accelerator.gather(offset)
        if self.scale != 1 or everyones.any():
            metrics = self._metrics["train" if self.model.training else "eval"]
            shift = everyones.mean().item()
            for name, moved in [("chosen", shift), ("rejected", 0.0), ("margins", shift)]:
                metrics[f"rewards/{name}"][-1] = (metrics[f"rewards/{name}"][-1] - moved) / self.scale
            if everyones.any():
                metrics.pop("rewards/accuracies", None)  # it counts kappa * M + PD > 0, which is not an accuracy
        return loss

    def _precompute_ref_logps(self, dataset, name, batch_size):
        if self.reference is None or self.args.ld_alpha is not None:  # LD-DPO's depend on the other response's length
            return super()._precompute_ref_logps(dataset, name, batch_size)
        chosen, rejected = self._text_keys(dataset)
        known = self.reference.read()
        self.accelerator.wait_for_everyone()  # nobody writes before everyone has read
        missing = [
            row for row, texts in enumerate(zip(chosen, rejected, strict=True)) if not known.keys() >= set(texts)
        ]
        if missing:
            table = super()._precompute_ref_logps(dataset.select(missing), name, batch_size)
            computed = {}
            for row, new_chosen, new_rejected in zip(
                missing, table["ref_chosen_logps"], table["ref_rejected_logps"], strict=True
            ):
                for key, logp in [(chosen[row], new_chosen), (rejected[row], new_rejected)]:
                    if key not in known:
                        computed[key] = logp
            if self.accelerator.is_main_process:
                self.reference.write(computed)
            known |= computed
        logps = {
            "ref_chosen_logps": [known[key] for key in chosen],
            "ref_rejected_logps": [known[key] for key in rejected],
        }
        return concatenate_datasets([dataset, Dataset.from_dict(logps)], axis=1)

    def _text_keys(self, dataset):
        """The keys of all chosen and of all rejected texts, as two lists."""
        chosen, rejected = [], []
        for row in dataset.select_columns(["prompt_ids", "chosen_ids", "rejected_ids"]):
            chosen.append(text_key(row["prompt_ids"], row["chosen_ids"], self.args.max_length))
            rejected.append(text_key(row["prompt_ids"], row["rejected_ids"], self.args.max_length))
        return chosen, rejected


class MarginTrainer(StopsAtNaN, EqualPairs, PreciseSums, RewardTrainer):
    """TRL's reward trainer. Its margin is subtracted inside the sigmoid, so a large negative one silences a pair."""

    blanked: ClassVar = {"margin": -BLANK}


class ResponseTrainer(StopsAtNaN, PreciseSums, SFTTrainer):
    """TRL's SFT trainer. It averages the loss over all tokens of a step already, over processes and rounds alike."""
