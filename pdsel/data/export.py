"""Writes the selected pairs to a folder that `load_dataset`, TRL and the hub take as it is."""

import json
from dataclasses import dataclass, field, fields
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
from datasets import Dataset, DatasetInfo
from huggingface_hub import DatasetCardData

from pdsel import __version__
from pdsel.artifacts import digest, disk_errors, writing
from pdsel.checks import DataError, check_pairs, refuse, require_columns, require_table
from pdsel.data.layouts import is_unicode
from pdsel.data.markdown import markdown

COLUMNS = ["prompt", "chosen", "rejected", "aspect"]
BATCH = 500  # pairs that are written at once
SIZES = [(1e3, "n<1K"), (1e4, "1K<n<10K"), (1e5, "10K<n<100K"), (1e6, "100K<n<1M"), (np.inf, "1M<n<10M")]
BY_DIVERGENCE = (
    "Selected by *preference divergence* (PD, the column `pd`):\nnegative where the other aspects agree with the label."
)
HUB = "https://huggingface.co/datasets/"
PAPER = (
    "@article{zhang2025beyond, title={Beyond Single: A Data Selection Principle for LLM Alignment via Fine-Grained Preference "
    "Signals}, author={Zhang, Jia and Liu, Yao and Zhang, Chen-Xi and Liu, Yi and Jin, Yi-Xuan and Guo, Lan-Zhe and Li, "
    "Yu-Feng}, journal={arXiv:2508.07638}, year={2025}}"
)
TEMPLATE = """---
{yaml}
---

# {name}

{n} preference pairs, each labelled on one aspect, best first. {rule}

```python
from datasets import Dataset, load_dataset

pairs = load_dataset("<this repository>", split="train")  # as `train_dataset` of TRL's DPOTrainer
pairs = Dataset.from_parquet("train.parquet")  # of this folder on a disk
```

## How it was selected

{facts}

{aspects}

## Source and licence

{source}{homepage}

Licence of the texts: {licence}. It comes from the source; check that it allows what you plan.

## Columns

`prompt`, `chosen`, `rejected`; `aspect` of the label; `pd`, the score, if there is one; `pair_id`, a digest of prompt, chosen,
rejected and aspect. `train.parquet` and `train.jsonl` hold the same rows.

## Digests

{digests}

## Citation

```bibtex
{citations}
```

Made with pdsel {version}.
"""


@dataclass(frozen=True, kw_only=True)
class Card:
    """What the card of a data set says beside its rows.

    Parameters
    ----------
    name : str, optional
        Title of the card; default: the folder's name.
    source : datasets.Dataset, optional
        The ratings table: what was read, its licence, page and citation are in its `info`.
    inputs : sequence of path
        Files that the pairs come from; their SHA-256 goes onto the card.
    licence : str, optional
        As the hub writes it, such as "mit" or "cc-by-4.0". Default: that of the source, or else "unknown".
    facts : dict
        How the pairs were selected, in your words. Plain values.
    """

    name: str | None = None
    source: Dataset | None = None
    inputs: tuple = ()
    licence: str | None = None
    facts: dict = field(default_factory=dict)

    def text(self, aspects, files, rule):
        """The card: YAML that the hub and `load_dataset` read, then text for people.

        Parameters
        ----------
        aspects : list of str
            The aspect of each row.
        files : list of Path
            The files of the rows.
        rule : str
            A sentence on how the rows were selected.
        """
        info = self.source.info if self.source is not None else DatasetInfo()
        name = self.name or files[0].resolve().parent.name
        licence = self.licence or info.license or "unknown"
        data = DatasetCardData(
            pretty_name=name,
            license=licence,
            task_categories=["text-generation"],
            size_categories=[next(label for most, label in SIZES if len(aspects) < most)],
            source_datasets=[info.homepage.removeprefix(HUB)] if info.homepage.startswith(HUB) else None,
            tags=["preference", "dpo", "trl", "preference-divergence"],
            configs=[{"config_name": "default", "data_files": [{"split": "train", "path": "train.parquet"}]}],
        )
        digests = {Path(file).name: f"`{digest(file)}`" for file in [*self.inputs, *files]}
        return TEMPLATE.format(
            yaml=data.to_yaml(),
            name=name,
            n=len(aspects),
            rule=rule,
            facts=_table("fact", "value", self.facts),
            aspects=_table("aspect", "pairs", pd.Series(aspects).value_counts().sort_index()),
            source=info.description or "Not recorded.",
            homepage=f"\n\n<{info.homepage}>" if info.homepage else "",
            licence=licence,
            digests=_table("file", "SHA-256", digests),
            citations="\n".join(filter(None, [PAPER, info.citation])),
            version=__version__,
        )


def export_preferences(pairs, kept, folder, *, divergence=None, **about):
    """Write the kept pairs as a dataset folder: `train.parquet`, `train.jsonl` (the same rows) and a card, `README.md`.

    Parameters
    ----------
    pairs : datasets.Dataset
        Pairs table, see `pdsel.make_pairs`; texts or chat messages.
    kept : sequence of str
        The `pair_id` of these pairs, in order, best first, as `pdsel.select` returns them.
    folder : str or Path
        Preferably empty, since `upload_folder` sends everything in it to the hub. The card is written last.
    divergence : pandas.Series, optional
        PD by `pair_id`; becomes the column `pd` of the rows.
    **about
        For the card. `name, source, inputs, licence` are explained at `Card`; everything else says how the pairs were selected,
        in your words: `share=0.3, kind="implicit", model=..., seed=0`.

    Returns
    -------
    Path
        The folder. `DPOTrainer` takes `datasets.Dataset.from_parquet(f"{folder}/train.parquet")` as it is: it needs `prompt,
        chosen, rejected` and ignores `aspect, pd, pair_id`. (Not `load_dataset(folder)`: its cache knows a folder by the
        names in its card, not by what is in it, so a second selection would read the first.) To publish the folder
        with its card, use `huggingface_hub.HfApi().upload_folder(folder_path=folder, repo_id=..., repo_type="dataset")`;
        to publish the rows alone, `Dataset.from_parquet(...).push_to_hub(...)`.

    Raises
    ------
    ValueError
        For missing, unknown or repeated ids, pairs that `check_pairs` refuses, or a kept pair without a divergence.

    Examples
    --------
    >>> import tempfile
    >>> from datasets import Dataset
    >>> pairs = Dataset.from_dict({"pair_id": ["a", "b"], "prompt": ["p", "q"], "chosen": ["x", "y"],
    ...                            "rejected": ["u", "v"], "aspect": ["honesty"] * 2})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     written = export_preferences(pairs, ["b"], folder, share=0.5)
    ...     sorted(path.name for path in written.iterdir()), (written / "train.jsonl").read_text()
    (['README.md', 'train.jsonl', 'train.parquet'],
     '{"prompt": "q", "chosen": "y", "rejected": "v", "aspect": "honesty", "pair_id": "b"}\\n')
    """
    folder, kept = Path(folder), list(kept)
    positions = _positions(pairs, kept)
    check_pairs(pairs.select(positions))
    if divergence is not None:
        divergence = divergence.reindex(kept)
        refuse(divergence.index[divergence.isna()], "divergence", "is absent or NaN for pairs", "score all kept pairs")
    with disk_errors(folder / "README.md"):
        (folder / "README.md").unlink(missing_ok=True)  # a folder without its card is unfinished
    files = [folder / "train.parquet", folder / "train.jsonl"]
    _write(pairs, positions, divergence, *files)
    broken = [name for name, value in about.items() if not is_unicode(str(value))]
    refuse(broken, "card: text", "is broken Unicode (half a surrogate pair)", "mend it")
    own = {option.name for option in fields(Card)} - {"facts"}
    facts = {"pairs to choose from": len(pairs), "pairs kept": len(kept)}
    facts |= {key: value for key, value in about.items() if key not in own}
    if divergence is not None:
        facts["PD of the pairs kept"] = f"{divergence.min():.4g} to {divergence.max():.4g}"
    card = Card(facts=facts, **{key: value for key, value in about.items() if key in own})
    rule = "How they were selected is below." if divergence is None else BY_DIVERGENCE
    text = card.text(pairs.select(positions)["aspect"][:], files, rule)
    with writing(folder / "README.md") as scratch:
        scratch.write_text(text, encoding="utf-8")
    return folder


def _positions(pairs, kept):
    """The positions of the kept pairs in the table."""
    require_table(pairs, "pairs")
    require_columns(pairs.column_names, ["pair_id", *COLUMNS], "pairs table")
    if not kept:
        raise DataError("kept: no pair is kept. Remedy: a larger share")
    repeated = pd.Index(kept)
    refuse(repeated[repeated.duplicated()].unique(), "kept: pair_id", "occurs more than once", "give each id once")
    position = {name: at for at, name in enumerate(pairs["pair_id"])}
    refuse(
        [name for name in kept if name not in position],
        "kept: pair_id",
        "is not in the pairs table",
        "select from the scores of these pairs",
    )
    return [position[name] for name in kept]


def _write(pairs, positions, divergence, parquet_file, jsonl_file):
    """Write the same rows in both formats, a few at a time; no half-written file gets the name."""
    columns = pairs.select_columns([*COLUMNS, "pair_id"]).with_format("arrow")

    def tables():
        for start in range(0, len(positions), BATCH):
            table = columns[positions[start : start + BATCH]]
            table = table.replace_schema_metadata(None)  # which names columns that are not written
            if divergence is not None:
                values = divergence.iloc[start : start + BATCH].to_numpy(dtype=float)
                table = table.add_column(len(COLUMNS), "pd", pa.array(values))
            yield table

    stream = tables()
    first = next(stream)
    with (
        writing(parquet_file) as binary,
        writing(jsonl_file) as text,
        parquet.ParquetWriter(binary, first.schema) as writer,
        open(text, "w", encoding="utf-8", newline="\n") as lines,
    ):
        for table in chain([first], stream):
            writer.write_table(table)
            lines.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in table.to_pylist())


def _table(key, value, rows):
    """A mapping as a Markdown table of two columns."""
    return markdown(pd.DataFrame(list(dict(rows).items()), columns=[key, value], dtype=object))
