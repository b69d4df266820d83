"""Signals of a pairs table, each computed when first asked for, kept on disk by content, with the seconds it took."""

import hashlib
import inspect
import json
import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from pdsel.artifacts import digest, model_digest, save_table, slug, writing
from pdsel.checks import DataError
from pdsel.rules import RULES, needs, score_all
from pdsel.rules.built import BUILT, build
from pdsel.rules.signals import POOLED_REWARD, PROXIES, SETTINGS, SIGNALS
from pdsel.selection import select


class Signals(Mapping):
    """The signals of one pairs table, each computed when first asked for.

    Parameters
    ----------
    pairs : datasets.Dataset
        Pairs table; its row order does not matter.
    base : str
        Path or hub id of the model that probes start from and that is the reference.
    seed : int
    folder : str or Path
        Where signals are kept: a table or a folder of models each, and a record with its seconds.
    proxies, pooled_reward : dict
        How the aspects' proxies and the one reward on all pairs are trained: keywords of `pdsel.fit_proxies` and
        `pdsel.fit_proxy`. A `model` among them wins over `base`, and a `seed` over `seed`.
    **given
        Values of signals that are known already; they cost nothing here.

    Examples
    --------
    >>> import tempfile
    >>> signals = Signals({"pair_id": ["p"]}, base="org/model", folder=tempfile.gettempdir(), pooled=pd.Series({"p": 1.0}))
    >>> "pooled" in signals, "margins" in signals, "moon" in signals, float(signals["pooled"]["p"])
    (True, True, False, 1.0)
    """

    def __init__(self, pairs, *, base, seed=0, folder, proxies=PROXIES, pooled_reward=POOLED_REWARD, **given):
        order = np.argsort(np.array(list(pairs["pair_id"]), dtype=str), kind="stable")
        self._values, self._seconds, self.folder = (
            {"pairs": pairs, "base": str(base), "seed": seed, "proxies": proxies, "pooled_reward": pooled_reward}
            | given,
            {},
            Path(folder),
        )
        self._sorted = pairs.select(order) if hasattr(pairs, "select") else pairs

    def __contains__(self, name):
        return name in SIGNALS or name in self._values

    def __iter__(self):
        return iter({**self._values, **SIGNALS})

    def __len__(self):
        return len({**self._values, **SIGNALS})

    def __getitem__(self, name):
        if name not in self._values:
            if name not in SIGNALS:
                raise DataError(f"signal {name!r}: use one of {list(self)}, or add a function to SIGNALS")
            self._values[name], self._seconds[name] = self._compute(name)
        return self._values[name]

    def seconds(self, *names):
        """What these signals took with all that they need, seconds; computes what is not there yet."""
        return sum((self[name], self._seconds.get(name, 0.0))[1] for name in self._closure(names))

    def _closure(self, names):
        found = {}
        for name in names:
            if name in SIGNALS and name not in found:
                given = name in self._values and name not in self._seconds
                found |= ({} if given else self._closure(_inputs(name))) | {name: True}
        return found

    def _compute(self, name):
        stem = self.folder / f"{slug(name)}-{self._key(name)}"
        record, asks_folder = stem.with_suffix(".json"), "folder" in needs(SIGNALS[name])
        if not record.exists():
            inputs = {need: self._sorted if need == "pairs" else self[need] for need in _inputs(name)}
            start = time.perf_counter()
            value = SIGNALS[name](**inputs, **({"folder": stem} if asks_folder else {}))
            seconds = time.perf_counter() - start
            if value is not None:
                frame = value.rename("value").to_frame() if isinstance(value, pd.Series) else value
                save_table(frame.rename_axis(frame.index.name or "pair_id"), stem.with_suffix(".parquet"))
            with writing(record) as scratch:
                scratch.write_text(json.dumps({"signal": name, "seconds": seconds}))
        seconds = json.loads(record.read_text())["seconds"]
        return (_load(stem) if stem.with_suffix(".parquet").exists() else stem), seconds

    def _key(self, name):
        return _digest([name, SETTINGS, {need: self._content(need) for need in _inputs(name)}])

    def _content(self, need):
        if need == "pairs":
            return self._pairs_digest
        if need == "base":
            return model_digest(self._values["base"]) or self._values["base"]
        if need == "seed":
            return self._values["seed"]
        if need in ("proxies", "pooled_reward"):
            settings = dict(self._values[need])
            if "model" in settings:
                settings["model"] = model_digest(settings["model"]) or settings["model"]
            return settings
        given = need in self._values and need not in self._seconds
        return _value_digest(self._values[need]) if given else self._key(need)

    @cached_property
    def _pairs_digest(self):
        """Of every column: a table may come with ids of its own, which say nothing about its texts and prompts."""
        names = sorted(getattr(self._sorted, "column_names", self._sorted))
        return _digest([[name, *map(str, self._sorted[name])] for name in names])


def pairs_for(rule, signals, *, share, **options):
    """The pairs that any rule of `RULES` keeps or of `BUILT` builds, and what they cost.

    Options, such as `seed` and `quantile`, reach the rules that have them; of those that build, the seed alone.

    Returns
    -------
    (datasets.Dataset, list, float)
        In the order of the pairs table; kept ids, best first (none of a table built anew); seconds of the signals.
    """
    if rule in BUILT:
        return (
            build(rule, signals, share=share, seed=options.get("seed", 0)),
            [],
            signals.seconds(*needs(BUILT[rule].score)),
        )
    scores = score_all(signals, [rule], **options)[rule]
    kept = select(scores, share, keep=RULES[rule].keeps)
    rows = np.flatnonzero(scores.index.isin(kept))
    return signals["pairs"].select(rows), list(kept), signals.seconds(*needs(RULES[rule].score))


def _inputs(name):
    return [need for need in inspect.signature(SIGNALS[name]).parameters if need != "folder"]


def _digest(content):
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _value_digest(value):
    """Of a given signal: a table by `pair_id` or `prompt_id`, or a folder of models."""
    if isinstance(value, str | Path):
        return digest(value)
    rows = pd.util.hash_pandas_object(value).tolist()  # of the index, too, which may repeat
    return _digest([rows, list(getattr(value, "columns", []))])


def _load(stem):
    frame = pd.read_parquet(stem.with_suffix(".parquet"))
    frame = frame.set_index(frame.columns[0])
    return frame["value"] if list(frame.columns) == ["value"] else frame
