"""Which failure looks like which without gold: simulated proxies, each with one thing wrong with it."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from pdsel.diagnostics import LENGTH, diagnose

NAMES = [f"k{i:02d}" for i in range(16)]


def simulate(seed, kappa=4, n=2400, *, correlation=0.5, error=0.7, rater_error=0.4, weights=None, reverse=None):
    """Margins of sound proxies: truth plus the proxy's error, turned to the side of a label that is truth plus noise.

    `weights` maps an aspect to `(of which other, weight)`: its truth is then that much of the other's, the rest its own.
    `reverse` is an aspect whose labels are the wrong way round, and whose proxy learned them so. `error` and
    `rater_error` are numbers or one per aspect.
    """
    rng = np.random.default_rng(seed)
    names = NAMES[:kappa]
    truth = np.sqrt(correlation) * rng.normal(size=(n, 1)) + np.sqrt(1 - correlation) * rng.normal(size=(n, kappa))
    for name, (other, weight) in (weights or {}).items():
        truth[:, names.index(name)] *= np.sqrt(1 - weight**2)
        truth[:, names.index(name)] += weight * truth[:, names.index(other)]
    if reverse:
        truth[:, names.index(reverse)] *= -1
    own = rng.integers(kappa, size=n)
    label = np.sign((truth + np.broadcast_to(rater_error, kappa) * rng.normal(size=truth.shape))[np.arange(n), own])
    scores = (truth + np.broadcast_to(error, kappa) * rng.normal(size=truth.shape)) * rng.uniform(0.1, 10, size=kappa)
    index = [f"z{i:04d}" for i in range(n)]
    return pd.DataFrame(scores * label[:, None], index=index, columns=names), pd.Series(
        np.array(names)[own], index=index
    )


def only_warning(table, name):
    """The warning of one aspect, if no other has one."""
    assert list(table.index[table["warning"] != ""]) == [name], table["warning"].to_dict()
    return table.loc[name, "warning"]


@pytest.mark.parametrize("kappa", [2, 3, 4, 16])
@pytest.mark.parametrize("seed", range(4))
def test_sound_proxies_give_no_warning(kappa, seed):
    margins, aspect = simulate(seed, kappa, correlation=[0.3, 0.5][seed % 2])
    table = diagnose(margins, aspect, held_out=dict.fromkeys(margins, 0.8))
    assert (table["warning"] == "").all(), table["warning"].to_dict()
    assert table["pairs"].sum() == len(margins)
    assert (table[["own", "others", "agreed_with"]] > 0.5).all(axis=None)
    assert table["others"].between(table["others_low"], table["others_high"]).all()
    assert table["typical"].between(0.35, 0.47).all()  # .41 for a normal distribution


@pytest.mark.parametrize("seed", range(4))
def test_independent_aspects_give_no_warning(seed):
    table = diagnose(*simulate(seed, correlation=0.0), held_out=dict.fromkeys(NAMES[:4], 0.8))
    assert not table["warning"].str.contains("opposed|chance|noisy").any()


def test_columns_by_hand():
    margins = pd.DataFrame(
        {"a": [1, -2, 4, 0, -2], "b": [2, 1, -1, 3, 3], "c": [1, 4, 2, -1, -1], "pooled": [9.0] * 5},
        index=list("pqrst"),
    )
    aspect = pd.Series({"t": "c", "s": "c", "r": "b", "q": "a", "p": "a", "elsewhere": "d"})
    table = diagnose(margins, aspect, quantile=1.0, held_out={"a": 0.75})
    assert list(table.index) == ["a", "b", "c"] and list(table["pairs"]) == [2, 1, 2]
    assert list(table["own"]) == [1 / 2, 0, 0]
    assert list(table["others"]) == [(1 + 1 / 2 + 0) / 3, 1, 1]  # a margin of 0 is half
    # scaled: a / 4, b / 3, c / 4; PD: p -(2/3 + 1/4), q -(1/3 + 1), r -(1 + 1/2), s -(0 + 1), t -(-1/2 + 1)
    assert list(table["agreed_with"]) == [1, 1, 1]
    # sizes of a on r, s, t: 1, 0, .5; of b on p, q, s, t: 2/3, 1/3, 1, 1; of c on p, q, r: .25, 1, .5
    assert list(table["typical"]) == pytest.approx([1 / 2, 5 / 6, 1 / 2])
    assert table["held_out"].tolist()[0] == 0.75 and table["held_out"].isna().tolist() == [False, True, True]
    # b with a on s and t alone: signed ranks (1, 1) against (0, -1.5)
    assert table.loc["b", "lowest_correlation"] == pytest.approx(-1.5 / (np.sqrt(2) * 1.5))
    assert table.loc["b", "with"] == "a"


def test_a_zero_is_between_the_signs_in_the_correlation():
    margins = pd.DataFrame({"a": [1.0, 2.0, -3.0, 4.0], "b": [1.0, 2.0, -3.0, 4.0]}, index=list("pqrs"))
    table = diagnose(margins, pd.Series(["a", "a", "b", "b"], index=list("pqrs")))
    assert table["lowest_correlation"].tolist() == pytest.approx([1, 1])
    table = diagnose(margins * [1, -1], pd.Series(["a", "a", "b", "b"], index=list("pqrs")))
    assert table["lowest_correlation"].tolist() == pytest.approx([-1, -1])


def test_the_correlation_does_not_depend_on_which_response_is_called_chosen():
    margins, aspect = simulate(0)
    turned = margins.mul(np.random.default_rng(0).choice([-1, 1], size=len(margins)), axis=0)
    before, after = diagnose(margins, aspect), diagnose(turned, aspect)
    np.testing.assert_allclose(before["lowest_correlation"], after["lowest_correlation"], atol=1e-12)


@pytest.mark.parametrize("kappa", [2, 4])
@pytest.mark.parametrize("seed", range(3))
def test_a_proxy_with_the_wrong_sign(kappa, seed):
    margins, aspect = simulate(seed, kappa)
    margins["k01"] *= -1
    table = diagnose(margins, aspect)
    if kappa == 2:  # PD of the other aspect's pairs is then reversed, which shows in that row as well
        assert "against their labels" in table.loc["k01", "warning"]
    else:
        assert "against their labels" in only_warning(table, "k01")
    assert table.loc["k01", "own"] < 0.3 and table.loc["k01", "agreed_with"] > 0.5
    assert (
        "swapped sign"
        in diagnose(margins.assign(k01=-margins["k01"]), aspect, held_out={"k01": 0.2}).loc["k01", "warning"]
    )


@pytest.mark.parametrize("seed", range(3))
def test_a_proxy_that_knows_nothing(seed):
    margins, aspect = simulate(seed)
    margins["k02"] = np.random.default_rng(seed + 50).normal(size=len(margins))
    assert "not surely better than chance on its own pairs" in only_warning(diagnose(margins, aspect), "k02")


def test_a_proxy_that_learned_by_heart_shows_only_in_held_out_pairs():
    margins, aspect = simulate(0)
    noise = np.random.default_rng(50).normal(size=len(margins))
    margins["k02"] = np.where(aspect == "k02", np.abs(noise), noise)
    held_out = pd.DataFrame({"accuracy": [0.8, 0.8, 0.52, 0.8], "n": 120}, index=margins.columns)
    assert not diagnose(margins, aspect)["warning"].str.contains("chance").any()
    assert "held-out own pairs" in only_warning(diagnose(margins, aspect, held_out=held_out), "k02")


def test_few_held_out_pairs_prove_less():
    margins, aspect = simulate(0)
    few, many = (pd.DataFrame({"accuracy": [0.8, 0.8, 0.58, 0.8], "n": n}, index=margins.columns) for n in (60, 600))
    assert "not surely better" in diagnose(margins, aspect, held_out=few).loc["k02", "warning"]
    assert "noisy labels, or hard to learn" in diagnose(margins, aspect, held_out=many).loc["k02", "warning"]


@pytest.mark.parametrize("seed", range(3))
def test_noisy_labels(seed):
    margins, aspect = simulate(seed, rater_error=[0.4, 0.4, 2.0, 0.4], error=[0.7, 0.7, 1.2, 0.7])
    table = diagnose(margins, aspect)
    assert "`own` is 0." in only_warning(table, "k02") and "noisy labels" in table.loc["k02", "warning"]
    assert table["agreed_with"].idxmin() == "k02"


@pytest.mark.parametrize("kappa", [2, 4])
@pytest.mark.parametrize("seed", range(3))
def test_two_opposed_aspects(kappa, seed):
    margins, aspect = simulate(seed, kappa, correlation=0.1, weights={"k01": ("k00", -0.8)})
    table = diagnose(margins, aspect)
    assert table.loc["k00", "warning"].startswith("opposed to k01:")
    assert table.loc["k01", "warning"].startswith("opposed to k00:")
    assert (table["warning"].iloc[2:] == "").all()
    assert list(table["with"].iloc[:2]) == ["k01", "k00"] and (table["own"] > 0.7).all()


@pytest.mark.parametrize("seed", range(3))
def test_reversed_labels_that_a_proxy_learned_as_they_are(seed):
    margins, aspect = simulate(seed, correlation=0.7, reverse="k03")
    table = diagnose(margins, aspect)
    assert table.loc["k03", "warning"].startswith("opposed to most others (k00, k01, k02): reversed labels, or a true")
    assert all(warning.startswith("opposed to k03:") for warning in table["warning"].iloc[:3])
    assert table.loc["k03", "own"] > 0.7 and table.loc["k03", "agreed_with"] < 0.5


@pytest.mark.parametrize("seed", range(3))
def test_reversed_labels_of_an_aspect_that_correlates_weakly(seed):
    table = diagnose(*simulate(seed, correlation=0.25, reverse="k03"))
    assert only_warning(table, "k03").startswith("contradicts the other labels, and they its own: reversed labels, or")


def test_a_proxy_without_any_opinion():
    margins, aspect = simulate(0)
    table = diagnose(margins.assign(k01=0.0), aspect)
    assert "no opinion (all margins are 0)" in only_warning(table, "k01")
    assert table.loc["k01", ["typical", "influence"]].tolist() == [0, 0]
    assert np.isnan(table.loc["k01", "lowest_correlation"]) and table.loc["k01", "with"] == ""


@pytest.mark.parametrize("seed", range(3))
def test_a_heavy_tail(seed):
    margins, aspect = simulate(seed)
    margins["k01"] *= np.abs(np.random.default_rng(seed).standard_cauchy(len(margins)))
    assert "tiny beside its largest" in only_warning(diagnose(margins, aspect), "k01")


@pytest.mark.parametrize("seed", range(3))
def test_one_proxy_that_decides_more_than_the_others(seed):
    margins, aspect = simulate(seed, correlation=0.0)
    margins["k01"] = np.sign(margins["k01"])  # always sure, where the others often are not
    assert "PD is mostly its opinion" in only_warning(diagnose(margins, aspect), "k01")


def test_influence_by_hand():
    """Kept: r, s and z. Without b, which alone favours r and s: z, q and t. Without c: r, s and q, first of the ties."""
    index = list("zqrstuvwxy")
    margins = pd.DataFrame({"a": 0.0, "b": 0.0, "c": 0.0}, index=index)
    margins.loc[["z", "q", "t"], "c"] = [0.9, 0.8, 0.1]
    margins.loc[["r", "s"], "b"] = 1.0
    aspect = pd.Series(["a"] * 5 + ["b"] * 3 + ["c"] * 2, index=index)
    found = diagnose(margins, aspect, quantile=1.0)["influence"]
    assert found.to_dict() == pytest.approx({"a": 0, "b": 2 / 3, "c": 1 / 3})


def test_a_proxy_that_judges_length():
    margins, aspect = simulate(0)
    gap = margins["k02"] + 0.3 * margins["k02"].std() * np.random.default_rng(0).normal(size=len(margins))
    table = diagnose(margins, aspect, length_gap=gap)
    assert table.loc["k02", "length"] > LENGTH
    assert "mostly judges length" in only_warning(table, "k02")
    assert diagnose(margins, aspect, length_gap=-gap).loc["k02", "length"] == pytest.approx(-table.loc["k02", "length"])


def test_margins_that_do_not_differ_from_0():
    margins, aspect = simulate(0)
    spread = margins.abs() * [0.1, 0.1, 10, 0.1]
    table = diagnose(margins, aspect, standard_error=spread)
    assert list(table["unsure"]) == [0, 0, 1, 0]
    assert "hardly a margin differs from 0" in only_warning(table, "k02")


def test_order_of_rows_and_columns_and_units_change_nothing():
    margins, aspect = simulate(1)
    gap = pd.Series(np.arange(len(margins)) % 7 - 3.0, index=margins.index)
    usual = diagnose(margins, aspect, length_gap=gap)
    rows = np.random.default_rng(0).permutation(len(margins))
    shuffled = diagnose(margins.iloc[rows][margins.columns[::-1]], aspect, length_gap=gap.iloc[rows[::-1]])
    scaled = diagnose(margins * [1, 20, 0.3, 4], aspect, length_gap=gap * 5)
    for other in (shuffled, scaled):
        pd.testing.assert_frame_equal(usual, other)


def test_nothing_given_is_changed():
    margins, aspect = simulate(0, n=200)
    before = margins.copy(), aspect.copy()
    diagnose(margins, aspect)
    pd.testing.assert_frame_equal(margins, before[0])
    pd.testing.assert_series_equal(aspect, before[1])


def test_unknown_own_margins_are_left_unknown():
    margins, aspect = simulate(0)
    for name in margins:
        margins.loc[aspect == name, name] = np.nan
    table = diagnose(margins, aspect)
    assert table["own"].isna().all() and table["others"].notna().all()
    assert (table["warning"] == "").all()


MARGINS, ASPECT = simulate(0, kappa=3, n=60)
ABSENT = MARGINS["k00"].iloc[1:]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"margins": MARGINS[["k00", "k01"]]}, "margins: column missing for an aspect: 1 .first: k02"),
        ({"margins": MARGINS.iloc[[0, *range(60)]]}, "margins: pair_id occurs more than once: 1 .first: z0000.*drop"),
        ({"margins": MARGINS.mask(MARGINS > 0)}, "is NaN or infinite where another aspect needs it.*score these"),
        ({"aspect": ASPECT.iloc[3:]}, "aspect has no entry for a pair: 3 .first: z0000, z0001"),
        ({"aspect": ASPECT.mask(ASPECT == "k01")}, "aspect is null: .*make_pairs"),
        ({"aspect": pd.Series("k01", index=ASPECT.index)}, "kappa = 1"),
        ({"quantile": 0}, "quantile=0 is not in"),
        ({"length_gap": ABSENT}, "length_gap has no entry for a pair: 1 .first: z0000"),
        ({"length_gap": MARGINS["k00"] * np.nan}, "length_gap is NaN or infinite: 60 .*measure both"),
        ({"held_out": {"k0": 0.8}}, "held_out: aspect unknown: 1 .first: k0.*use .*k00"),
        ({"held_out": {"k00": 80}}, "held_out is not a share in .*first: k00.*pass 0.8 for 80 %"),
        ({"held_out": pd.DataFrame({"accuracy": [0.8]}, index=["k00"])}, "held_out: column missing: 1 .first: n"),
        ({"standard_error": MARGINS[["k00"]].abs()}, "standard_error: column missing for an aspect: 2 .first: k01"),
        (
            {"standard_error": MARGINS.abs().iloc[1:]},
            r"standard_error\['k00'\] has no entry for a pair: 1 .first: z0000",
        ),
        ({"standard_error": -MARGINS.abs()}, r"standard_error\['k00'\] is NaN, negative or infinite.*two or more"),
    ],
)
def test_bad_input_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        diagnose(**{"margins": MARGINS, "aspect": ASPECT} | change)


def test_it_needs_no_torch_and_is_at_hand():
    program = "import sys, pdsel; pdsel.diagnose; assert 'torch' not in sys.modules; print(pdsel.diagnose.__module__)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "pdsel.diagnostics", done.stderr
