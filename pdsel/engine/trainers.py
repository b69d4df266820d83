"""TRL's trainers with three additions: an offset per pair inside the sigmoid, steps that are the same however split, and
losses on pairs that TRL lacks (`pdsel.engine.losses`).

TRL's DPO has no column for an offset. Shifting the reference log-probability of the chosen response by `-offset / beta`
gives `-log sigma(scale * M + offset)` exactly, with TRL's beta set to `scale * beta`.
"""

import hashlib
import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from datasets import Dataset, concatenate_datasets
from trl import DPOTrainer, RewardTrainer, SFTTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from pdsel.engine.errors import StopsAtNaN
from pdsel.engine.losses import PairBatch
from pdsel.engine.reference_cache import text_key

BLANK = 1e3  # inside the sigmoid: a loss of exactly 0 in float32, and no gradient
OURS = ("offset", "scale")  # columns of a batch that no model reads


@dataclass
class OffsetCollator(DataCollatorForPreference):
    """TRL's collator, carrying the offsets and scales of the batch along.

    Parameters
    ----------
    down_samples : bool
        Whether fewer tokens of the longer response count, see `down_sampled`.
    """

    down_samples: bool = False

    def torch_call(self, examples):
        batch = super().torch_call(examples)
        for column in set(OURS) & set(examples[0]):
            batch[column] = torch.tensor([example[column] for example in examples], dtype=torch.float32)
        if self.down_samples:
            batch["completion_mask"] = down_sampled(batch["completion_mask"], batch["input_ids"])
        return batch


def down_sampled(mask, ids):
    """SamPO's mask (2406.10957): of the longer response of a pair only as many tokens count as the shorter one has.

    They are drawn at random, by the response's own tokens, so that policy and reference are compared on the same ones, as in
    the paper's formula (its code draws anew for either) and whatever the batch. Every epoch sees the same draw.

    Parameters
    ----------
    mask : torch.Tensor, shape (2 n, length)
        1 for tokens of a response; n chosen ones, then n rejected ones.
    ids : torch.Tensor, shape (2 n, length)

    >>> mask = torch.tensor([[0, 1, 1, 1], [0, 1, 0, 0]])
    >>> down_sampled(mask, torch.arange(8).reshape(2, 4)).sum(dim=1).tolist()
    [1, 1]
    """
    n, kept = len(mask) // 2, torch.zeros_like(mask)
    shorter = torch.minimum(mask[:n].sum(dim=1), mask[n:].sum(dim=1)).repeat(2)
    for row, size in enumerate(shorter.tolist()):
        places = mask[row].nonzero()[:, 0]
        digest = hashlib.sha256(ids[row, places].numpy().tobytes()).digest()
        draw = torch.Generator().manual_seed(int.from_bytes(digest[:7]))
        kept[row, places[torch.randperm(len(places), generator=draw)[:size]]] = 1
    return kept


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
    pair_loss : callable, optional
        `pair_loss(pairs, beta=...)` of `pdsel.engine.losses`, which takes the place of TRL's "sigmoid".
    reference : pdsel.engine.reference_cache.ReferenceCache, optional
        Where precomputed reference log-probabilities are read and kept.
    """

    def __init__(self, *args, scale=1, pair_loss=None, reference=None, **kwargs):
        self.scale, self.pair_loss, self.reference = scale, pair_loss, reference
        super().__init__(*args, **kwargs)
        if pair_loss is not None:
            self.use_weighting = False  # it has TRL compute what WPO weighs by; the weights themselves are the loss's
            terms = dict(zip(self.loss_types, self.loss_weights, strict=True))
            self.pair_loss_weight = terms.pop("sigmoid")
            self.loss_types, self.loss_weights = list(terms), list(terms.values())
        if self._precompute_engine is not None:  # ZeRO-3's engine for the reference: its hooks would trip training's
            self._precompute_engine.destroy()
            self._precompute_engine = None

    def compute_ref_log_probs(self, model, inputs):
        return super().compute_ref_log_probs(model, {name: inputs[name] for name in inputs if name not in OURS})

    def _compute_loss(self, model, inputs, return_outputs):
        inputs = dict(inputs)
        offset, scale = inputs.pop("offset"), inputs.pop("scale", None)
        if self.pair_loss is not None:
            return self._own_loss(model, inputs, offset, scale)
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

    def _own_loss(self, model, inputs, offset, scale):
        """TRL's forward pass, metrics and further terms, and the named loss in the place of its sigmoid."""
        passes = []

        def watched(**kwargs):
            passes.append(model(**kwargs))
            return passes[-1]

        other_terms = super()._compute_loss(watched, inputs, False)
        pairs = read_pairs(passes[0], inputs, offset, torch.ones_like(offset) if scale is None else scale)
        return other_terms + self.pair_loss_weight * self.pair_loss(pairs, beta=self.beta).mean()

    def _precompute_ref_logps(self, dataset, name, batch_size):
        depends_on_the_pair = self.args.ld_alpha is not None or self.data_collator.down_samples
        if self.reference is None or depends_on_the_pair:  # and not on the text alone
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


def read_pairs(outputs, inputs, offset, scale):
    """What a loss may read of a batch, from the outputs of TRL's pass; chosen responses come first in it."""
    mask = inputs["completion_mask"][:, 1:]
    tokens = mask.sum(dim=1)
    per_token = outputs.log_probs[:, -mask.shape[1] :]  # 0 outside of the response
    chosen_logps, rejected_logps = per_token.sum(dim=1).chunk(2)
    chosen_tokens, rejected_tokens = tokens.chunk(2)
    likelihood = None
    if outputs.log_sum_sq_probs is not None:
        typical = outputs.log_sum_sq_probs[:, -mask.shape[1] :]
        chosen_mean, rejected_mean = (((per_token.detach() - typical) * mask).sum(dim=1) / tokens).chunk(2)
        likelihood = torch.exp(chosen_mean + rejected_mean)
    return PairBatch(
        policy_chosen_logps=chosen_logps,
        policy_rejected_logps=rejected_logps,
        reference_chosen_logps=inputs["ref_chosen_logps"],
        reference_rejected_logps=inputs["ref_rejected_logps"],
        chosen_tokens=chosen_tokens,
        rejected_tokens=rejected_tokens,
        offset=offset,
        scale=scale,
        likelihood=likelihood,
    )


class MarginTrainer(StopsAtNaN, EqualPairs, PreciseSums, RewardTrainer):
    """TRL's reward trainer. Its margin is subtracted inside the sigmoid, so a large negative one silences a pair."""

    blanked: ClassVar = {"margin": -BLANK}


class ResponseTrainer(StopsAtNaN, PreciseSums, SFTTrainer):
    """TRL's SFT trainer. It averages the loss over all tokens of a step already, over processes and rounds alike."""
