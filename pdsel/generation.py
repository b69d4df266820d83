"""Outputs of a policy: batched greedy decoding or sampling with transformers."""

import json

import torch
from tqdm.auto import tqdm

from pdsel.artifacts import writing
from pdsel.models import device, load_causal, load_tokenizer


def generate(model, prompts, *, max_new_tokens=64, temperature=0.0, batch_size=128, seed=0):
    """A response per prompt.

    Parameters
    ----------
    model : str
        Path or hub id of a causal model.
    prompts : list of str or of chat messages
        Strings go in as they are; messages through the tokenizer's chat template.
    max_new_tokens : int
    temperature : float
        0 is greedy.
    batch_size : int
        Prompts of like length share a batch.
    seed : int
        For temperatures above 0; the global generator is left alone.

    Returns
    -------
    list of str
        In the order of the prompts, special tokens removed.
    """
    tokenizer = load_tokenizer(model, padding_side="left")
    net = load_causal(model).to(device()).eval()
    sampling = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature > 0 else {
        "do_sample": False}  # fmt: skip
    order = sorted(range(len(prompts)), key=lambda i: (len(str(prompts[i])), i))
    texts = [_as_text(tokenizer, prompt) for prompt in prompts]
    outputs = {}
    with torch.inference_mode(), torch.random.fork_rng():
        torch.manual_seed(seed)
        for start in tqdm(range(0, len(order), batch_size), desc="generating", leave=False):
            batch = order[start : start + batch_size]
            # a chat template writes its own special tokens; never add them twice
            inputs = tokenizer([texts[i] for i in batch], return_tensors="pt", padding=True,
                               add_special_tokens=isinstance(prompts[batch[0]], str)).to(net.device)  # fmt: skip
            inputs.pop("token_type_ids", None)
            ids = net.generate(**inputs, max_new_tokens=max_new_tokens, use_cache=True,
                               pad_token_id=tokenizer.pad_token_id, **sampling)  # fmt: skip
            new = ids[:, inputs["input_ids"].shape[1] :]
            outputs |= zip(batch, tokenizer.batch_decode(new, skip_special_tokens=True), strict=True)
    return [outputs[i].strip() for i in range(len(prompts))]


def _as_text(tokenizer, prompt):
    if isinstance(prompt, str):
        return prompt
    return tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)


def save_outputs(path, prompts, outputs, *, generator, dataset="notesworld"):
    """Write outputs in AlpacaEval's `model_outputs.json` layout; returns the path."""
    rows = [
        {"instruction": prompt, "output": output, "generator": generator, "dataset": dataset, "datasplit": "eval"}
        for prompt, output in zip(prompts, outputs, strict=True)
    ]
    with writing(path) as scratch:
        scratch.write_text(json.dumps(rows, indent=1, ensure_ascii=False))
    return path
