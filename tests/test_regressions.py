"""Many regressions at once: each is what scikit-learn and a pencil say."""

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from pdsel.engine import regressions as solved
from pdsel.engine.regressions import Columns, regressions


def draw(n=120, width=12, seed=0):
    """Rows that a linear margin, unequal scales and chance have turned round."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, width)) * np.geomspace(1, 0.01, width)
    signs = np.where(rng.random(n) < expit(rows.sum(axis=1)), 1.0, -1.0)
    return rows * signs[:, None]


def of_scikit_learn(rows, counts, strength):
    """Two classes are wanted there: a row of zeros in the other one adds a constant to the loss."""
    model = LogisticRegression(C=strength, fit_intercept=False, tol=1e-7, max_iter=1000)
    model.fit(np.vstack([rows, 0 * rows[:1]]), np.append(np.ones(len(rows)), 0), sample_weight=np.append(counts, 1))
    return model.coef_[0]


@pytest.mark.parametrize("width", [12, 300])
def test_each_of_many_is_the_one_of_scikit_learn(width):
    rows, strengths = draw(width=width), [0.1, 3.0, 100.0]
    counts = np.random.default_rng(1).integers(0, 3, size=(len(rows), 3))
    together = regressions(rows, counts, strengths)
    for each, strength in enumerate(strengths):
        expected = of_scikit_learn(rows, counts[:, each], strength)
        np.testing.assert_allclose(together[:, each], expected, atol=1e-3 * np.abs(expected).max())


def test_a_row_that_counts_nothing_is_not_there():
    rows = draw()
    counts = (np.arange(len(rows)) < 80).astype(float)[:, None]
    np.testing.assert_allclose(regressions(rows, counts, [3.0]), regressions(rows[:80], counts[:80], [3.0]), atol=1e-5)


@pytest.mark.parametrize("strength", [0.1, 10.0, 1e4])
def test_labels_that_a_line_separates_end_where_the_penalty_says(strength):
    """Two equal rows of 1: the slope of the loss, 2 sigma(-w), meets that of the penalty, w / strength."""
    expected = brentq(lambda w: 2 * expit(-w) - w / strength, 0, 100)
    assert regressions(np.ones((2, 1)), np.ones((2, 1)), [strength])[0, 0] == pytest.approx(expected, rel=1e-4)


def test_rows_of_zeros_have_no_weights():
    assert np.array_equal(regressions(np.zeros((5, 3)), np.ones((5, 2)), [1.0, 3.0]), np.zeros((3, 2)))


def test_a_start_at_the_solution_stays_there():
    rows, counts = draw(), np.ones((120, 1))
    first = regressions(rows, counts, [3.0])
    np.testing.assert_allclose(regressions(rows, counts, [3.0], start=first), first, atol=1e-6)


def test_few_principal_axes_cost_steps_and_not_exactness(monkeypatch):
    rows, counts = draw(width=40), np.ones((120, 1))
    all_axes = regressions(rows, counts, [10.0])
    monkeypatch.setattr(solved, "AXES", 3)
    np.testing.assert_allclose(regressions(rows, counts, [10.0]), all_axes, atol=1e-4)


def test_axes_are_orthonormal_and_their_sizes_are_those_of_the_columns():
    columns = Columns.of(draw(width=6))
    assert np.allclose(columns.axes.T @ columns.axes, np.eye(6), atol=1e-8)
    assert np.allclose(columns.sizes, np.linalg.svd(draw(width=6))[1][::-1] ** 2)


def test_large_columns_are_solved_in_single_precision(monkeypatch):
    rows, counts = draw(), np.ones((120, 2))
    exact = regressions(rows, counts, [0.3, 30.0])
    monkeypatch.setattr(solved, "SMALL", 10)
    assert Columns.of(rows).values.dtype == solved.torch.float32
    np.testing.assert_allclose(regressions(rows, counts, [0.3, 30.0]), exact, atol=1e-2)
