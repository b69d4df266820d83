"""The paper's numbers, each with the conflict level that it was published for: they stand beside ours of that level only.

Llama-3.1-8B on UltraFeedback, 30 % of the pairs kept, judged by AlpacaEval 2; from a public summary of the paper. The main
table is at 10 % conflict: its LC column equals, to the digit, the 10 % column of the table of conflict levels.
"""

import pandas as pd

MAIN_CONFLICT = 0.1
MAIN = pd.DataFrame(
    {
        "WR": [7.08, 14.35, 16.63, 15.18, 19.42, 14.72, 19.64, 18.85, 21.00],
        "LC": [14.00, 19.96, 22.21, 21.14, 24.73, 19.56, 23.34, 25.38, 26.11],
        "AW": [0.64, 1.00, 1.15, 1.08, 1.25, 1.02, 1.18, 1.23, 1.24],
        "GPU hours": [0.0, 33.6, 33.6, 33.6, 42.1, 10.1, 16.2, 10.1, 18.6],
    },
    index=pd.Index(["SFT", "OVA", "AVG", "ALL", "DMPO", "RAND", "RAF", "PD(rati.)", "PD"], name="method"),
)
LC_BY_CONFLICT = pd.DataFrame(
    {0.1: [21.14, 24.73, 23.34, 26.11], 0.2: [18.07, 23.28, 22.62, 25.17], 0.3: [16.44, 20.99, 21.76, 24.71]},
    index=pd.Index(["ALL", "DMPO", "RAF", "PD"], name="method"),
)


def published_at(conflict):
    """What the paper reports at a conflict level: WR, LC and AW at 10 %, LC at 20 and 30 %, nothing elsewhere.

    Parameters
    ----------
    conflict : float

    Returns
    -------
    pandas.DataFrame
        Index method, a column per metric; without columns where nothing was published.

    Examples
    --------
    >>> published_at(0.1).loc["PD"].to_dict()
    {'WR': 21.0, 'LC': 26.11, 'AW': 1.24}
    >>> published_at(0.3).loc["PD"].to_dict(), published_at(0.25).columns.tolist()
    ({'LC': 24.71}, [])
    """
    if conflict == MAIN_CONFLICT:
        return MAIN[["WR", "LC", "AW"]]
    if conflict in LC_BY_CONFLICT:
        return LC_BY_CONFLICT[[conflict]].set_axis(["LC"], axis=1)
    return pd.DataFrame(index=MAIN.index)


def published_text(method, conflict):
    """The paper's numbers for a method at a conflict level, or "".

    >>> published_text("PD", 0.1), published_text("PD", 0.3), published_text("OVA", 0.3)
    ('21.00, 26.11, 1.24', '24.71', '')
    """
    numbers = published_at(conflict)
    if method not in numbers.index:
        return ""
    return ", ".join(f"{value:.2f}" for value in numbers.loc[method])
