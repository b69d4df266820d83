"""What an estimate says about a test: the verdicts of claims, with one part or with several.

Three tests of a difference in points of win rate: it is *above* 0; *at least* within `MARGIN` points, that is no more than that
below 0; the *same* within `MARGIN` points. The interval decides, so a verdict is "inconclusive" where it does not.
"""

from dataclasses import replace

from scipy import stats

from pdsel.checks import DataError
from pdsel.evaluation import CONFIDENCE

MARGIN = 2.0  # points of win rate that we call no difference, for "at least" and "same"
TESTS = {"above": "above", "at least": f"at least within {MARGIN:g} points", "same": f"same within {MARGIN:g} points"}
VERDICT_SEEDS = 5  # with fewer there is an estimate, but no verdict
TOO_FEW, NOT_RUN = "too few seeds", "not run"  # instead of a verdict


def verdict(found, test, fails=None):
    """What an estimate says about a test: "holds", "does not hold" or "inconclusive".

    Parameters
    ----------
    found : Estimate
        With its own 95 % interval, which decides whether the test holds.
    test : {"above", "at least", "same"}
    fails : Estimate, optional
        With a wider interval (see `simultaneous`), which decides whether it fails, where one of several parts that fails
        decides; by default `found`.

    Examples
    --------
    >>> from pdsel.evaluation import Estimate
    >>> verdict(Estimate(1.0, 0.5, low=0.1, high=1.9, variant="by hand", n=9), "above")
    'holds'
    """
    fails = fails or found
    if test == "above":
        holds, contradicted = found.low > 0, fails.high < 0
    elif test == "at least":
        holds, contradicted = found.low > -MARGIN, fails.high < -MARGIN
    elif test == "same":
        holds = found.low > -MARGIN and found.high < MARGIN
        contradicted = fails.low > MARGIN or fails.high < -MARGIN
    else:
        raise DataError(f"test={test!r}: use one of {list(TESTS)}")
    if contradicted:
        return "does not hold"
    return "holds" if holds else "inconclusive"


def verdict_over_seeds(found, test, seeds, fails=None):
    """The verdict, or "too few seeds" where an estimate rests on fewer than `VERDICT_SEEDS`; arguments as for `verdict`.

    >>> from pdsel.evaluation import Estimate
    >>> verdict_over_seeds(Estimate(1.0, 0.5, low=0.1, high=1.9, variant="by hand", n=9), "above", seeds=3)
    'too few seeds'
    """
    return verdict(found, test, fails) if seeds >= VERDICT_SEEDS else TOO_FEW


def joint_verdict(verdicts):
    """The verdict on a claim from those on its parts: one that does not hold decides, and all must hold.

    That all hold needs no correction for their number: the chance that every one of several tests passes is at most that of
    the one whose part is false (intersection-union test, Berger 1982). That one of several fails does: see `simultaneous`.

    >>> joint_verdict(["holds", "inconclusive"])
    'inconclusive'
    """
    order = ["does not hold", TOO_FEW, NOT_RUN, "inconclusive"]
    return next((said for said in order if said in verdicts), "holds")


def simultaneous(found, *, parts, seeds):
    """An estimate with an interval that belongs to all parts of a claim at once (Bonferroni).

    All intervals together cover with 95 %, each with 1 - .05 / parts. So far in the tails the degrees of freedom matter: they
    are those of the seeds alone, never more, which simulation shows to be calibrated (`pdsel.experiments.calibration`).

    Parameters
    ----------
    found : Estimate
    parts, seeds : int
        How many parts the claim has, and how many seeds the estimate rests on.

    Returns
    -------
    Estimate

    Examples
    --------
    >>> from pdsel.evaluation import Estimate
    >>> one = Estimate(-6.0, 1.0, low=-8.8, high=-3.2, variant="by hand", n=9)
    >>> simultaneous(one, parts=8, seeds=5).signed
    '-6.0 [-11.3, -0.7]'
    """
    if seeds < 2 or parts < 2:
        return found
    half = float(stats.t.ppf(1 - (1 - CONFIDENCE) / (2 * parts), seeds - 1)) * found.standard_error
    return replace(found, low=found.value - half, high=found.value + half)
