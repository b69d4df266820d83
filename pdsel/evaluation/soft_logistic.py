"""Logistic regression on probabilities: the one fit behind prompt difficulty and Bradley-Terry strengths."""

import numpy as np
from scipy import sparse
from sklearn.linear_model import LogisticRegression


def soft_logistic(design, probability, *, weight=None, penalty):
    """Coefficients of a ridge-penalised logistic regression whose targets are probabilities.

    scikit-learn takes labels, not probabilities, so each row enters twice: as a 1 with weight p and as a 0 with weight
    1 - p. The likelihood is the same.

    Parameters
    ----------
    design : array or sparse matrix, shape (n, k)
        It has a constant only if one of its columns is constant.
    probability : array, shape (n,)
        In [0, 1].
    weight : array, shape (n,), optional
        1 for every row by default.
    penalty : float
        The weight of half the squared coefficients: 1 / variance of a normal prior. It is above 0, so that no coefficient
        can grow without bound.

    Returns
    -------
    numpy.ndarray, shape (k,)

    Examples
    --------
    >>> soft_logistic(np.ones((2, 1)), np.array([0.5, 1.0]), penalty=1e-6).round(2)  # log odds of 3/4
    array([1.1])
    """
    stack = sparse.vstack if sparse.issparse(design) else np.vstack
    if weight is None:
        weight = np.ones(len(probability))
    model = LogisticRegression(C=1 / penalty, fit_intercept=False, solver="newton-cholesky", tol=1e-8, max_iter=1000)
    labels = np.repeat([1, 0], len(probability))
    weights = np.concatenate([weight * probability, weight * (1 - probability)])
    model.fit(stack([design, design]), labels, sample_weight=weights)
    return model.coef_[0]
