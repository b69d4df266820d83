"""Probes: what features cost beside plain scoring by the same model, and regressions on them, in seconds and in memory."""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from bench.measure import fresh, peak_mb, timed
from bench.scoring import MAX_LENGTH, draw_pairs, save_model
from pdsel.engine.feature_files import Files, PairFeatures, load_features
from pdsel.engine.features import pair_features
from pdsel.engine.probes import Search, bootstrap_probe, fit_probe
from pdsel.engine.scoring import response_logps
from pdsel.experiments.probe_study import probe_replicates
from pdsel.proxies import fit_proxies

PROMPTS = 2222  # give about 10 000 pairs
REPLICATES = 200
WIDE = [(600, 17_000), (16_000, 8_000)]  # pairs and columns of one aspect: the notes world with W, and a model of 1 B
SPECTRUM = 1.0  # the j-th principal axis of made-up features has a variance of j ** -SPECTRUM
ON_DISK = 28_330, 8_196  # pairs and columns: an eighth of 64 000 prompts x 4 responses, and all of a model of 1 B but W
SLICE = 2000  # pairs of made-up features that are in memory together


def measure_scoring(n_prompts, model):
    """The log-probabilities of every response, as an implicit reward's reference needs them."""
    pairs = draw_pairs(n_prompts)
    texts = [*pairs["prompt"]] * 2, [*pairs["chosen"], *pairs["rejected"]]
    before = peak_mb()
    _, *seconds = timed(lambda: response_logps(model, *texts, max_length=MAX_LENGTH))
    return _row("scoring", len(pairs), np.nan, seconds, before)


def measure_features(n_prompts, model, folder):
    """The same pass, with features; they are left in `folder`."""
    pairs = draw_pairs(n_prompts)
    before = peak_mb()
    features, *seconds = timed(lambda: pair_features(pairs, model=model, max_length=MAX_LENGTH))
    row = _row("features", len(pairs), _width(features), seconds, before)
    features.save(folder)
    return row


def measure_fits(n_prompts, folder):
    """Probes of the four aspects on features that were read, with blocks and strength chosen, and their replicates."""
    pairs, features = draw_pairs(n_prompts), load_features(folder)
    options = {"kind": "probe", "model": features.model, "features": features, "max_length": MAX_LENGTH}
    before = peak_mb()
    probes, *seconds = timed(lambda: fit_proxies(pairs, **options))
    rows = [_row("fits of 4 aspects", len(pairs), _width(features), seconds, before)]
    _, *seconds = timed(lambda: list(probe_replicates(pairs, probes, features, n_replicates=REPLICATES)))
    rows.append(_row(f"{REPLICATES} replicates of 4 aspects", len(pairs), _width(features), seconds, before))
    return rows


def made_up_gaps(n, width, *, seed=0):
    """Blocks of random features whose variances fall as real ones' do, chosen minus rejected; some of them tell who won."""
    rng = np.random.default_rng(seed)
    wide = (width - 4) // 4
    gaps = {"length": rng.normal(size=(n, 1)), "surprisal": rng.normal(size=(n, 3))}
    for name in ("hd", "grad", "inter", "mid"):
        falling = np.arange(1, wide + 1, dtype=np.float32) ** (-SPECTRUM / 2)
        gaps[name] = rng.standard_normal((n, wide), dtype=np.float32) * falling
    margin = gaps["surprisal"][:, 0] + gaps["hd"][:, :3].sum(axis=1)
    signs = np.where(rng.random(n) < 1 / (1 + np.exp(-margin)), 1, -1).astype(np.float32)
    return {name: gap * signs[:, None] for name, gap in gaps.items()}


def measure_wide(n, width):
    """One probe on many columns, blocks and strength chosen, and its replicates."""
    gaps, prompts = made_up_gaps(n, width), np.arange(n) // 4
    search = Search(candidates=[list(gaps), ["length", "surprisal", "mid"], ["length", "surprisal"]])
    before = peak_mb()
    probe, *seconds = timed(lambda: fit_probe(gaps, prompts, search=search))
    rows = [_row("fit of 1 aspect", n, width, seconds, before)]
    _, *seconds = timed(lambda: bootstrap_probe(probe, gaps, prompts, n_replicates=REPLICATES))
    rows.append(_row(f"{REPLICATES} replicates of 1 aspect", n, width, seconds, before))
    return rows


def measure_on_disk(n, width, folder):
    """Features in files, larger than what may be in memory: the margins of all pairs, and a fit on a quarter of them."""
    features = _write_features(n, width, folder)
    before = peak_mb()
    ids, quarter = list(features.ids), list(features.ids[: n // 4])
    search = Search(candidates=[["length", "surprisal", "hd"]], strengths=[3.0])
    probe = fit_probe(features.of(quarter, features.gaps), np.arange(n // 4), search=search)
    _, *seconds = timed(lambda: probe.margins_of(features, ids))
    rows = [_row("margins from files", n, width, seconds, before)]
    search = Search(candidates=[list(features.gaps)], strengths=[3.0])
    _, *seconds = timed(lambda: fit_probe(features.of(quarter, features.gaps), np.arange(n // 4), search=search))
    rows.append(_row("fit of a quarter from files, one choice", n, width, seconds, before))
    return rows


def _write_features(n, width, folder):
    names = list(made_up_gaps(1, width))
    for first in range(0, n, SLICE):
        rows = slice(first, min(first + SLICE, n))
        part = made_up_gaps(rows.stop - first, width, seed=first)
        for name, gap in part.items():
            path = Path(folder, f"{name}.npy")
            if first == 0:
                np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n, gap.shape[1]))
            np.load(path, mmap_mode="r+")[rows] = gap
    ids = pd.Index([f"{row:06d}" for row in range(n)], name="pair_id")
    logps = pd.DataFrame(0.0, index=ids, columns=["chosen", "rejected"])
    return PairFeatures(ids, Files(folder, names), logps, "made up", MAX_LENGTH, 0, 0.0)


def _row(what, pairs, columns, seconds, before):
    return {
        "what": what,
        "pairs": pairs,
        "columns": columns,
        "seconds": seconds[0],
        "cpu_seconds": seconds[1],
        "peak_mb_before": before,
        "peak_mb": peak_mb(),
    }


def _width(features):
    return sum(gap.shape[1] for gap in features.gaps.values())


def features_table(n_prompts=PROMPTS, *, wide=WIDE, on_disk=ON_DISK, run=fresh):
    """A row per kind of work, each in a process of its own; `times_scoring` is a pass beside that of plain scoring."""
    with tempfile.TemporaryDirectory() as folder:
        model = save_model(f"{folder}/model", seed=0)
        rows = [run(measure_scoring, n_prompts, model)]
        rows.append(run(measure_features, n_prompts, model, f"{folder}/features"))
        rows += run(measure_fits, n_prompts, f"{folder}/features")
    for n, width in wide:
        rows += run(measure_wide, n, width)
    with tempfile.TemporaryDirectory() as folder:
        rows += run(measure_on_disk, *on_disk, folder)
    table = pd.DataFrame(rows)
    passes = table["what"].isin(["scoring", "features"])
    table["times_scoring"] = (table["cpu_seconds"] / table["cpu_seconds"][0]).where(passes)
    return table
