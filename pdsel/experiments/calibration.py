"""How often comparisons get a star by chance, and how often true differences get one: simulated families of comparisons.

`python -m pdsel.experiments.calibration [folder]`, or `make calibrate`, writes `families.csv` (a row per design and method),
`worst.csv` (its worst cases) and `best.csv` (how often the best method is missing among `best_methods`).

A family is what a league prints: the differences of many methods from one reference, over few seeds. What is simulated are the
sums that a comparison is made of (the mean over seeds and prompts and the mean squares of the analysis of variance), whose
distributions are known where seeds, prompts and chance are normal.
"""

import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from pdsel.artifacts import save_table
from pdsel.evaluation.estimates import CONFIDENCE
from pdsel.evaluation.moderated import guarded_variances, two_sided_p, variance_prior

PROMPTS, PROMPT_SD, CHANCE_SD = 500, 6.0, 10.0  # held-out prompts; points of win rate
COMPARISONS, PARTS = 50, 8  # of a league, and of the claim with the most parts
SEEDS = [3, 5, 8, 10]
EFFECTS = [3.0, 6.0, 10.0]  # of every fifth comparison where power is measured; points
FAMILIES, FAMILIES_OF_POWER = 2000, 200
SPREADS = {  # standard deviations between seeds of the methods of a family, in points, by the place of a method in [0, 1]
    "all 0": lambda place: np.zeros_like(place),
    "all 1": lambda place: np.full_like(place, 1.0),
    "all 3": lambda place: np.full_like(place, 3.0),
    "all 8": lambda place: np.full_like(place, 8.0),
    "0 to 8": lambda place: 8 * place,
    "log-normal, median 3": lambda place: 3 * np.exp(0.7 * stats.norm.ppf(0.98 * place + 0.01)),
    "half 1, half 8": lambda place: np.where(place < 0.5, 1.0, 8.0),
    "half 0, half 8": lambda place: np.where(place < 0.5, 0.0, 8.0),
    "half 4, half 8": lambda place: np.where(place < 0.5, 4.0, 8.0),
    "nine tenths 1, a tenth 8": lambda place: np.where(place < 0.9, 1.0, 8.0),
    "all but one 1, one 8": lambda place: np.where(place < 1, 1.0, 8.0),
}


@dataclass(frozen=True)
class Design:
    """What a family is like.

    Attributes
    ----------
    seeds : int
    spread : str
        One of `SPREADS`.
    reference : {"own", "shared"}
        Whether every comparison has a reference of its own, so that they are independent, or all have the same, whose
        standard deviation between seeds is the median of the others'.
    prompts : {"fresh", "same"}
        Whether every seed has prompts of its own, or all have the same.
    """

    seeds: int
    spread: str
    reference: str
    prompts: str
    comparisons: int = COMPARISONS

    @property
    def spreads(self):
        """The standard deviations between seeds of the methods, shape (comparisons,)."""
        return SPREADS[self.spread](np.linspace(0, 1, self.comparisons))


def designs(seeds=SEEDS, comparisons=COMPARISONS):
    """Every spread with either kind of reference and of prompts.

    >>> len(designs([8])) == 4 * len(SPREADS)
    True
    """
    return [
        Design(number, spread, reference, prompts, comparisons)
        for number in seeds
        for spread in SPREADS
        for reference in ("own", "shared")
        for prompts in ("fresh", "same")
    ]


@dataclass(frozen=True)
class Families:
    """Simulated families: arrays of shape (families, comparisons), as `mean_and_variances` gives them for one comparison.

    `prompt_spread` is the variance of the prompts' means over their number, from which chance is not yet taken off.
    """

    seeds: int
    value: np.ndarray
    variance: np.ndarray
    prompt_variance: np.ndarray
    prompt_spread: np.ndarray


def draw(design, families, effect=0.0, *, seed=0):
    """Families of comparisons in which every fifth difference is `effect` and the others are 0.

    >>> draw(Design(8, "all 3", "shared", "fresh"), 2).value.shape
    (2, 50)
    """
    rng = np.random.default_rng(seed)
    shape, seeds, spreads = (families, design.comparisons, design.seeds), design.seeds, design.spreads
    differences = rng.normal(size=shape) * spreads[:, None]
    if design.reference == "shared":
        differences -= rng.normal(size=(families, 1, seeds)) * np.median(spreads)
    fresh = design.prompts == "fresh"
    chance = np.hypot(CHANCE_SD, PROMPT_SD) if fresh else CHANCE_SD
    differences += rng.normal(size=shape) * chance / np.sqrt(PROMPTS)
    prompt_spread = prompt_variance = np.zeros(shape[:2])
    if not fresh:
        differences += rng.normal(size=(*shape[:2], 1)) * PROMPT_SD / np.sqrt(PROMPTS)
        prompt_spread, prompt_variance = _prompts(rng, seeds, shape[:2])
    value = differences.mean(axis=2) + np.where(np.arange(design.comparisons) % 5 == 0, effect, 0.0)
    return Families(seeds, value, differences.var(axis=2, ddof=1), prompt_variance, prompt_spread)


def _prompts(rng, seeds, shape):
    """Mean squares of prompts and of chance, as the analysis of variance finds them: chi-squares over their freedom."""
    of_prompts = PROMPTS - 1
    of_chance = of_prompts * (seeds - 1)
    prompts = (PROMPT_SD**2 + CHANCE_SD**2 / seeds) * rng.chisquare(of_prompts, shape) / of_prompts
    chance = CHANCE_SD**2 * rng.chisquare(of_chance, shape) / of_chance
    return prompts / PROMPTS, np.maximum(prompts - chance / seeds, 0) / PROMPTS


def p_guarded(families):
    """What `compare_methods` does: moderated variances that are never below their own."""
    return _family_by_family(families, guarded_variances)


def p_moderated(families):
    """Moderated variances without the guard (limma)."""
    return _family_by_family(families, _moderated_variances)


def p_student(families):
    """Student's t over the seeds' means, every comparison by itself."""
    error = np.sqrt(families.variance / families.seeds + families.prompt_variance)
    return two_sided_p(families.value, error, families.seeds - 1)


def p_satterthwaite(families):
    """Degrees of freedom from the estimated variances themselves: many where seeds agree by chance, near k - 1 elsewhere."""
    of_seeds = families.variance / families.seeds
    variance = of_seeds + families.prompt_spread
    freedom = variance**2 / (of_seeds**2 / (families.seeds - 1) + families.prompt_spread**2 / (PROMPTS - 1))
    return two_sided_p(families.value, np.sqrt(variance), freedom)


METHODS = {
    "guarded moderated t": p_guarded,
    "moderated t": p_moderated,
    "Student's t": p_student,
    "Satterthwaite's t": p_satterthwaite,
}


def _family_by_family(families, moderate):
    freedom = np.full(families.value.shape[1], families.seeds - 1.0)
    p = np.empty_like(families.value)
    for row, variances in enumerate(families.variance):
        moderated, moderated_freedom = moderate(variances, freedom)
        error = np.sqrt(moderated / families.seeds + families.prompt_variance[row])
        p[row] = two_sided_p(families.value[row], error, moderated_freedom)
    return p


def _moderated_variances(variances, freedom):
    prior_freedom, common = variance_prior(variances, freedom)
    if np.isinf(prior_freedom):
        return np.full_like(variances, common), np.minimum(prior_freedom, freedom.sum())
    moderated = (prior_freedom * common + freedom * variances) / (prior_freedom + freedom)
    return moderated, np.minimum(prior_freedom + freedom, freedom.sum())


def holm(p):
    """Holm's corrected p values along the last axis; as `statsmodels.stats.multitest.multipletests`, for many families at once.

    >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p, axis=-1)
    factors = np.arange(p.shape[-1], 0, -1)
    corrected = np.maximum.accumulate(np.take_along_axis(p, order, axis=-1) * factors, axis=-1)
    result = np.empty_like(p)
    np.put_along_axis(result, order, np.minimum(corrected, 1), axis=-1)
    return result


def false_stars(design, method, families=FAMILIES):
    """The share of families without any difference in which some comparison has a corrected p below .05."""
    p = METHODS[method](draw(design, families))
    return float((holm(p).min(axis=1) < 1 - CONFIDENCE).mean())


def power(design, method, effect, families=FAMILIES_OF_POWER):
    """The share of true differences of this size that have a corrected p below .05."""
    p = METHODS[method](draw(design, families, effect))
    return float((holm(p)[:, ::5] < 1 - CONFIDENCE).mean())


def best_is_missing(design, lead=0.0, families=FAMILIES, *, seed=0):
    """How often the best method is not among those that the best observed one does not surely beat, see `best_methods`.

    The methods have seeds in common but no reference; the first is ahead of the others by `lead` points.
    """
    rng = np.random.default_rng(seed)
    missing = 0
    for _ in range(families):
        values = rng.normal(size=(design.comparisons, design.seeds)) * design.spreads[:, None]
        values += rng.normal(size=values.shape) * np.hypot(CHANCE_SD, PROMPT_SD) / np.sqrt(PROMPTS)
        values[0] += lead
        best = values.mean(axis=1).argmax()
        behind = values[best] - np.delete(values, best, axis=0)
        if best != 0 and _one_sided_p(behind)[0] <= (1 - CONFIDENCE) / len(behind):
            missing += 1
    return missing / families


def _one_sided_p(differences):
    """That the mean over seeds is above 0, for every row."""
    seeds = differences.shape[1]
    variances, freedom = guarded_variances(differences.var(axis=1, ddof=1), np.full(len(differences), seeds - 1.0))
    return two_sided_p(differences.mean(axis=1), np.sqrt(variances / seeds), freedom) / 2


def calibrate(asked, families=FAMILIES, families_of_power=FAMILIES_OF_POWER):
    """A row per design and method.

    Returns
    -------
    pandas.DataFrame
        The columns of `Design`, `method`, `families`, `false_stars` (the family-wise error, nominally .05), and for every
        effect the share of true differences with a star: `power_3, power_6, power_10`.
    """
    rows = []
    for design in asked:
        for method in METHODS:
            row = asdict(design) | {"method": method, "families": families}
            row["false_stars"] = false_stars(design, method, families)
            for effect in EFFECTS:
                row[f"power_{effect:g}"] = power(design, method, effect, families_of_power)
            rows.append(row)
    return pd.DataFrame(rows)


def worst_cases(table):
    """The largest family-wise error of each method at each number of seeds, where it occurs, and the mean power."""
    groups = table.groupby(["comparisons", "seeds", "method"], sort=False)
    worst = table.loc[groups["false_stars"].idxmax()].reset_index(drop=True)
    means = groups.mean(numeric_only=True).reset_index()
    powers = [column for column in table if column.startswith("power_")]
    return worst.drop(columns=powers).join(means[powers])


def main(folder="results/calibration"):
    """Simulate and write the three tables; minutes on one core."""
    table = pd.concat([calibrate(designs()), calibrate(designs([3, 5], PARTS))], ignore_index=True)
    rows = []
    for design in [Design(8, spread, "own", "fresh") for spread in SPREADS]:
        for lead in (0.0, 3.0):
            rows.append(asdict(design) | {"lead": lead, "missing": best_is_missing(design, lead)})
    tables = {"families.csv": table, "worst.csv": worst_cases(table), "best.csv": pd.DataFrame(rows)}
    for name, each in tables.items():
        print(save_table(each, Path(folder, name)))
    print(worst_cases(table).to_string(index=False, float_format="{:.3f}".format))


if __name__ == "__main__":
    main(*sys.argv[1:2])
