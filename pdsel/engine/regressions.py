"""Many penalised logistic regressions over the same rows at once: cross-validation, strengths and replicates of a bootstrap.

A row is what the preferred response of a pair has more of than the other, so there is one class and no intercept: regression
j minimises sum_i counts[i, j] * -log sigma(columns[i] @ w_j) + |w_j|^2 / (2 strengths[j]). It is solved by Newton's method
with conjugate gradients, which multiply the columns with a vector for each regression and never build a Hessian. For all
regressions together these are products of matrices: a hundred of them take little longer than a few. The columns' first
principal axes, found once, make the conjugate gradients few (the randomised preconditioner of arXiv 2110.02820).
"""

from dataclasses import dataclass

import numpy as np
import torch

from pdsel.engine.models import device

SMALL = 2**24  # numbers in the columns; up to here they are solved on the CPU, beyond in float32 where the GPU is
AXES = 150  # principal axes that are looked for
STEPS, PRODUCTS = 30, 200  # at most, of Newton's method and within each of its steps
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4}  # of a gradient, relative to that at 0
FORCING = 0.1  # how exactly a step is solved: this share of the gradient is left
HALVINGS = 10  # of a step that does not lower the loss


@dataclass(frozen=True)
class Columns:
    """The columns of regressions, shape (n, width), with their first principal axes, shape (width, k), and those' squares.

    `sizes` are the squared lengths of the columns along the axes, shape (k,), smallest first.
    """

    values: torch.Tensor
    axes: torch.Tensor
    sizes: torch.Tensor

    @classmethod
    def of(cls, values, *, roughly=False):
        """An array in the type and on the device where regressions on it are solved; its axes from one power iteration.

        `roughly`: in float32 as well where it is small, which takes half the time.
        """
        large = values.size > SMALL
        dtype = torch.float32 if large or roughly else torch.float64
        values = torch.as_tensor(values, dtype=dtype).to(device() if large else "cpu")
        n, width = values.shape
        noise = torch.randn(width, min(AXES, n, width), generator=torch.Generator().manual_seed(0))
        basis = torch.linalg.qr(values.T @ (values @ noise.to(values)))[0]
        along = values @ basis
        sizes, turned = torch.linalg.eigh(along.T @ along)
        return cls(values, basis @ turned, sizes.clamp(min=0))

    def margins(self, coefficients):
        """What coefficients of shape (width, m) make of every row, shape (n, m)."""
        return (self.values @ torch.as_tensor(coefficients).to(self.values)).cpu().numpy().astype(float)


def regressions(columns, counts, strengths, *, start=None, tolerance=None):
    """The coefficients of every regression.

    Parameters
    ----------
    columns : Columns, or numpy.ndarray of shape (n, width)
    counts : array, shape (n, m)
        How often each row counts in each regression; 0 leaves it out.
    strengths : array, shape (m,)
        Nats squared, see the module.
    start : numpy.ndarray, shape (width, m), optional
        Where to begin; near the solution it saves steps.
    tolerance : float, optional
        How small a gradient ends the search, relative to that at 0; the default is small for the type of the columns.

    Returns
    -------
    numpy.ndarray, shape (width, m)

    Examples
    --------
    Three of four rows are +1 and hardly anything is penalised: the margin is log 3. Counted twice or once, it is log 3 again.

    >>> fitted = regressions(np.array([[1.0], [1.0], [1.0], [-1.0]]), [[1, 2]] * 4, [1e9, 1e9])
    >>> np.exp(fitted).round(3).tolist()
    [[3.0, 3.0]]
    """
    columns = columns if isinstance(columns, Columns) else Columns.of(columns)
    counts, strengths = (torch.as_tensor(np.asarray(each)).to(columns.values) for each in (counts, strengths))
    if start is None:
        start = np.zeros((columns.values.shape[1], counts.shape[1]))
    tolerance = TOLERANCE[columns.values.dtype] if tolerance is None else tolerance
    start = torch.tensor(start).to(columns.values)
    return _newton(columns, counts, strengths, start, tolerance).cpu().numpy().astype(float)


def _newton(columns, counts, strengths, weights, tolerance):
    """Newton's method for all regressions at once; one that is solved is left alone while the others go on."""
    values = columns.values
    at_zero = (values.T @ counts / 2).norm(dim=0)
    unsolved = torch.arange(weights.shape[1], device=values.device)
    for _ in range(STEPS):
        here = weights[:, unsolved]
        margins = values @ here
        wrong = torch.sigmoid(-margins)  # the chance of the other label
        gradient = here / strengths[unsolved] - values.T @ (counts[:, unsolved] * wrong)
        left = _ratio(gradient.norm(dim=0), at_zero[unsolved])
        far = left > tolerance
        if not bool(far.any()):
            break
        unsolved, here, margins, wrong = unsolved[far], here[:, far], margins[:, far], wrong[:, far]
        some = counts[:, unsolved], strengths[unsolved]
        step = _solve(columns, some[0] * wrong * (1 - wrong), some[1], gradient[:, far], left[far])
        weights[:, unsolved] = here + _step_size((here, margins), (step, values @ step), *some) * step
    return weights


def _solve(columns, curvature, strengths, gradient, left):
    """Newton's steps by preconditioned conjugate gradients; roughly while the gradient is large."""
    divide = _preconditioner(columns, curvature.mean(dim=0), strengths)
    goal = (FORCING * left.clamp(max=1).sqrt() * gradient.norm(dim=0)) ** 2
    step, rest = torch.zeros_like(gradient), -gradient
    direction = divide(rest)
    product = (rest * direction).sum(dim=0)
    for _ in range(PRODUCTS):
        if bool(((rest**2).sum(dim=0) <= goal).all()):
            break
        bent = columns.values.T @ (curvature * (columns.values @ direction)) + direction / strengths
        length = _ratio(product, (direction * bent).sum(dim=0))
        step, rest = step + length * direction, rest - length * bent
        scaled = divide(rest)
        before, product = product, (rest * scaled).sum(dim=0)
        direction = scaled + _ratio(product, before) * direction
    return step


def _preconditioner(columns, curvature, strengths):
    """Divide by the Hessian as if every row had the mean curvature, and as if all but the first axes were the last of these."""
    hessian = columns.sizes[:, None] * curvature + 1 / strengths
    beyond = hessian[0]

    def divide(gradient):
        along = columns.axes.T @ gradient
        return gradient / beyond + columns.axes @ (along / hessian - along / beyond)

    return divide


def _ratio(above, below):
    """The quotient, and 0 where there is nothing to divide by: a regression that is solved stays as it is."""
    nothing = below <= 0
    return torch.where(nothing, 0.0, above / torch.where(nothing, 1.0, below))


def _step_size(here, step, counts, strengths):
    """The largest of 1, 1/2, 1/4, ... that does not raise the loss, for each regression."""
    (weights, margins), (move, along) = here, step

    def loss(size):
        penalty = ((weights + size * move) ** 2).sum(dim=0) / (2 * strengths)
        return penalty - (counts * torch.nn.functional.logsigmoid(margins + size * along)).sum(dim=0)

    size = torch.ones_like(strengths)
    most = loss(torch.zeros_like(size))
    most = most + 1e3 * torch.finfo(most.dtype).eps * most.abs()  # a sum's own rounding is no rise
    for _ in range(HALVINGS):
        rises = loss(size) > most
        if not bool(rises.any()):
            break
        size = torch.where(rises, size / 2, size)
    return size
