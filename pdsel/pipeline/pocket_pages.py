"""What the tables of `results/pocket` say, for README and the book: a paragraph, and a table of the policies."""

from pathlib import Path

import pandas as pd

from pdsel.artifacts import load_table
from pdsel.data.markdown import markdown
from pdsel.experiments.pocket.kept_labels import OTHERS
from pdsel.experiments.pocket.people import MEAN
from pdsel.experiments.pocket.settings import SHARES, UNTRAINED
from pdsel.pipeline.text import interval

SETTING = "pocket"  # LoRA on 1 200 pairs
SURE = 0.05  # below it a corrected p value tells two methods apart
JUDGES = ["chrf", "coverage", "reward"]  # the first is fooled by no answer that ignores what was asked


def pocket_blocks(results="results/pocket"):
    """The blocks `pocket` (README's paragraph) and `pocket_policies`, from the committed tables; none where there are none."""
    if not Path(results, "win_rates.csv").exists():
        return {}
    labels, wins, unseen = (
        load_table(Path(results, f"{name}.csv")).query("setting == @SETTING")
        for name in ("kept_labels", "win_rates", "unseen")
    )
    return {"pocket": in_short(labels, wins), "pocket_policies": markdown(policy_rows(wins, unseen))}


def in_short(labels, wins):
    """README's paragraph.

    Parameters
    ----------
    labels, wins : pandas.DataFrame
        `kept_labels.csv` and `win_rates.csv`, of one setting.

    Returns
    -------
    str
    """
    kept = labels[(labels["judge"] == OTHERS) & (labels["share"] == SHARES[1])].set_index("rule")["value"]
    policies = wins[~wins["method"].isin(UNTRAINED)].set_index("method")
    by_text, by_people = (policies[policies["judge"] == judge] for judge in (JUDGES[0], JUDGES[2]))
    best = by_text.loc[by_text["value"].idxmax()]
    lead = interval(*best[["difference", "difference_low", "difference_high"]])
    return (
        "With a real model (135 million parameters) and people's ratings of texts (WebNLG), people's other ratings confirm "
        f"{kept['PD']:.0f} % of the labels that PD keeps, and {kept['ALL']:.0f} % of all. Of the policies, {best.name}'s "
        "writes what is most like people's texts (chrF++)"
        + (f", {lead} points of win rate above RAND's" if pd.notna(best["difference"]) else "")
        + f"; corrected for several comparisons, {best['seeds']} seeds tell {_told(by_text)} from RAND by chrF++, and "
        f"{_told(by_people)} by a reward trained on ratings ([notebook 12](notebooks/12_pocket.ipynb))."
    )


def _told(policies):
    """The methods that a corrected test tells from the one they are compared with.

    >>> _told(pd.DataFrame({"p_holm": [0.01, 0.2]}, index=["PD", "RAF"]))
    'only PD'
    """
    told = list(policies.index[policies["p_holm"] < SURE])
    if len(told) == policies["p_holm"].notna().sum() > 1:
        return "every method"
    return "none" if not told else f"only {told[0]}" if len(told) == 1 else " and ".join(told)


def policy_rows(wins, unseen):
    """The book's table of policies, worst first by the first judge.

    Parameters
    ----------
    wins, unseen : pandas.DataFrame
        `win_rates.csv` and `unseen.csv`, of one setting.
    """
    rates = wins.pivot(index="method", columns="judge", values="value")
    compared = wins[wins["judge"] == JUDGES[0]].set_index("method")
    ordered = unseen[unseen["by"] == MEAN].set_index("method")
    rows = []
    for method in rates.sort_values(JUDGES[0]).index:
        right, apart = ordered.loc[method], compared.loc[method]
        row = {"method": method, "unseen pairs as people (%)": interval(right["value"], right["low"], right["high"])}
        row |= {f"wins by {judge} (%)": f"{rates.loc[method, judge]:.1f}" for judge in JUDGES}
        row |= {f"minus RAND by {JUDGES[0]}": "", "seeds needed": ""}
        if pd.notna(apart["difference"]):
            ends = apart["difference"], apart["difference_low"], apart["difference_high"]
            row |= {f"minus RAND by {JUDGES[0]}": interval(*ends), "seeds needed": f"{apart['seeds_needed']:.0f}"}
        rows.append(row)
    return pd.DataFrame(rows)
