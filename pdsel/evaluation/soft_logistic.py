"""Logistic regression on probabilities: the one fit behind prompt difficulty and Bradley-Terry strengths."""

import numpy as np
from scipy import sparse
from sklearn.linear_model import LogisticRegression


def soft_logistic(design, probability, *, weight=None, penalty):
    """Coefficients of a ridge-penalised logistic regression whose targets are probabilities.

    scikit-learn takes labels, not probabilities, so that each row enters twice: as a 1 with weight p, as a 0 with 1 - p. The
    likelihood is the same.

    Parameters
    ----------
    design : array or sparse matrix, shape (n, k)
        Without a constant, unless a column holds one.
    probability : array, shape (n,)
        In [0, 1].
    weight : array, shape (n,), optional
    penalty : float
        Of half the squared coefficients: 1 / variance of a normal prior. Above 0, so that no coefficient can run away.

    Returns
    -------
    numpy.ndarray, shape (k,)

    Examples
    --------
    >>> soft_logistic(np.ones((2, 1)), np.array([0.5, 1.0]), penalty=1e-6).round(2)  # log odds of 3/4
    array([1.1])
    """
    stack = sparse.vstack if sparse.issparse(design) else np.vstack
    weight = np.ones(len(probability)) if weight is None else weight
    model = LogisticRegression(C=1 / penalty, fit_intercept=False, solver="newton-cholesky", tol=1e-8, max_iter=1000)
    label = np.repeat([1, 0], len(probability))
    model.fit(
        stack([design, design]), label, sample_weight=np.concatenate([weight * probability, weight * (1 - probability)])
    )
    return model.coef_[0]
