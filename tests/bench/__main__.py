"""`python -m bench [folder]` with this folder's parent on PYTHONPATH: print both tables and write them as CSV."""

import sys
from pathlib import Path

from bench.divergence import divergence_table
from bench.measure import fresh


def main(folder="results/bench", sizes=(10**5, 10**6, 10**7), n_prompts=12, *, run=fresh):
    """Measure, print and write `divergence.csv` and `scoring.csv`."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    _show("Margins to kept ids", divergence_table(list(sizes), run=run), Path(folder, "divergence.csv"))
    from bench.scoring import scoring_table  # after the first table, whose processes inherit this one's peak of memory

    _show("Texts to margins, one core", scoring_table(n_prompts, run=run), Path(folder, "scoring.csv"))


def _show(title, table, path):
    table.to_csv(path, index=False, float_format="%.6g")
    print(f"\n{title} ({path})\n{table.to_string(index=False, float_format='{:,.3g}'.format)}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:2])
