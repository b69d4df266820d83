"""`python -m bench [folder]` with this folder's parent on PYTHONPATH: print the tables and write them as CSV."""

import sys
from pathlib import Path

from bench.divergence import divergence_table
from bench.measure import fresh


def main(
    folder="results/bench", sizes=(10**5, 10**6, 10**7), n_prompts=12, n_rated=64_000, *, features=None, run=fresh
):
    """Measure, print and write `divergence.csv`, `ratings.csv`, `scoring.csv` and `features.csv`."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    _show("Margins to kept ids", divergence_table(list(sizes), run=run), Path(folder, "divergence.csv"))
    # Imported after the first table, whose processes inherit this one's peak of memory.
    from bench.features import features_table
    from bench.ratings import ratings_table
    from bench.scoring import scoring_table

    _show("Rated responses to pairs", ratings_table(n_rated, run=run), Path(folder, "ratings.csv"))
    _show("Texts to margins, one core", scoring_table(n_prompts, run=run), Path(folder, "scoring.csv"))
    probes = features_table(**features or {}, run=run)
    _show("Texts to features to probes, one core", probes, Path(folder, "features.csv"))


def _show(title, table, path):
    table.to_csv(path, index=False, float_format="%.6g")
    print(f"\n{title} ({path})\n{table.to_string(index=False, float_format='{:,.3g}'.format)}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:2])
