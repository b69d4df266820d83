"""The signals of a pairs table: each is computed when it is first asked for, and kept on disk with the seconds it took."""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from pdsel.artifacts import digest, model_digest
from pdsel.checks import DataError
from pdsel.data.store import Store
from pdsel.rules import RULES, needs, score_all
from pdsel.rules.built import BUILT, build
from pdsel.rules.margins import implicit
from pdsel.rules.signals import POOLED_REWARD, PROXIES, SIGNALS
from pdsel.selection import select


@dataclass(frozen=True)
class Known:
    """A signal's value, the seconds it took, and whether the caller gave it."""

    value: object
    seconds: float = 0.0
    given: bool = False


class Signals(Mapping):
    """The signals of one pairs table, each computed when it is first asked for.

    Parameters
    ----------
    pairs : datasets.Dataset
        Pairs table; its row order does not matter.
    base : str
        Path or hub id of the model that probes start from and that is the reference.
    seed : int
    folder : str or Path
        Where signals are kept, see `pdsel.data.store`: a table or a folder of models each, and the seconds it took.
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
        values = {"pairs": pairs, "base": str(base), "seed": seed, "proxies": proxies, "pooled_reward": pooled_reward}
        self._known = {name: Known(value, given=True) for name, value in (values | given).items()}
        self._model_digests = {}
        self.folder = Path(folder)
        order = np.argsort(np.array(list(pairs["pair_id"]), dtype=str), kind="stable")
        self._sorted_pairs = pairs.select(order) if hasattr(pairs, "select") else pairs

    def __contains__(self, name):
        return name in SIGNALS or name in self._known

    def __iter__(self):
        return iter({**self._known, **SIGNALS})

    def __len__(self):
        return len({**self._known, **SIGNALS})

    def __getitem__(self, name):
        return self._signal(name).value

    def seconds(self, *names):
        """What these signals took together with all that they need, in seconds; computes what is not there yet."""
        return sum(self._signal(name).seconds for name in self._with_inputs(names))

    def _signal(self, name):
        if name not in self._known:
            if name not in SIGNALS:
                raise DataError(f"signal {name!r}: use one of {list(self)}, or add a `Signal` to SIGNALS")
            self._known[name] = self._compute(name)
        return self._known[name]

    def _is_given(self, name):
        return name in self._known and self._known[name].given

    def _with_inputs(self, names):
        """The signals of these names, each once and after those it needs; a given one needs nothing."""
        ordered = []
        for name in names:
            if name not in SIGNALS:
                continue
            inputs = [] if self._is_given(name) else self._with_inputs(inputs_of(name))
            ordered += [signal for signal in [*inputs, name] if signal not in ordered]
        return ordered

    def _compute(self, name):
        signal, store, settings = SIGNALS[name], self._store(name), self._settings(name)
        models = store.path(name, settings)

        def timed():
            inputs = {need: self._sorted_pairs if need == "pairs" else self[need] for need in inputs_of(name)}
            if "folder" in needs(signal.compute):
                inputs["folder"] = models
            start = time.perf_counter()
            table = signal.compute(**inputs)
            record = {"seconds": time.perf_counter() - start}
            return record if table is None else (table.rename_axis(table.index.name or "pair_id"), record)

        stored = store.computed(name, settings, timed)
        if isinstance(stored, tuple):
            table, record = stored
            return Known(table, record["seconds"])
        return Known(models, stored["seconds"])

    def _store(self, name):
        return Store(self.folder, code=(SIGNALS[name].compute, implicit))

    def _settings(self, name):
        """What determines a signal besides its code: the content of each of its inputs."""
        return {need: self._content(need) for need in inputs_of(name)}

    def _content(self, need):
        if need == "pairs":
            return self._pairs_digest
        if need == "base":
            return self._model_digest(self["base"])
        if need == "seed":
            return self["seed"]
        if need in ("proxies", "pooled_reward"):
            training = self[need]
            return training | {"model": self._model_digest(training["model"])} if "model" in training else training
        if self._is_given(need):
            return _value_digest(self._known[need].value)
        return self._store(need).path(need, self._settings(need)).name

    def _model_digest(self, model):
        """Taken once a model, since it reads all of its files."""
        if model not in self._model_digests:
            self._model_digests[model] = model_digest(model)
        return self._model_digests[model]

    @cached_property
    def _pairs_digest(self):
        """Of every column: a table may come with ids of its own, which say nothing about its texts and prompts."""
        names = sorted(getattr(self._sorted_pairs, "column_names", self._sorted_pairs))
        return _digest([[name, *map(str, self._sorted_pairs[name])] for name in names])


def pairs_for(rule, signals, *, share, **options):
    """The pairs that any rule of `RULES` keeps or of `BUILT` builds, and what they cost.

    Options, such as `seed`, `quantile` and the share itself, reach the rules that have them; of those that build, the seed
    and the share.

    Returns
    -------
    (datasets.Dataset, list, float)
        In the order of the pairs table; kept ids, best first (none of a table built anew); seconds of the signals.
    """
    if rule in BUILT:
        built = build(rule, signals, share=share, seed=options.get("seed", 0))
        return built, [], signals.seconds(*needs(BUILT[rule].score))
    scores = score_all(signals, [rule], share=share, **options)[rule]
    kept = select(scores, share, keep=RULES[rule].keeps)
    kept_rows = np.flatnonzero(scores.index.isin(kept))
    return signals["pairs"].select(kept_rows), list(kept), signals.seconds(*needs(RULES[rule].score))


def inputs_of(name):
    """What a signal is computed from: other signals, or what is given.

    >>> inputs_of("pooled")
    ['pooled_rewards']
    """
    return [need for need in needs(SIGNALS[name].compute) if need != "folder"]


def _digest(content):
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _value_digest(value):
    """Of a given signal: a table by `pair_id` or `prompt_id`, or a folder of models."""
    if isinstance(value, str | Path):
        return digest(value)
    hashes = pd.util.hash_pandas_object(value).tolist()  # of the index, too, which may repeat
    return _digest([hashes, list(getattr(value, "columns", []))])
