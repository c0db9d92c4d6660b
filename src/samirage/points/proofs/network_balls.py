"""Enclosures of the derivatives of a tanh network's loss, in closed form: a few products of ball matrices.

With `x̃ = (x, 1)`, `a = tanh(W̃_1·x̃)`, `ã = (a, 1)`, `y = tanh(W̃_2·ã)` and the loss `φ(o_k) = (tanh(o_k) − t_k)²/n` of
each output, `φ' = 2(y − t)·y'/n` and `φ'' = (2y'² + 2(y − t)·y'')/n`, the Hessian's blocks are sums over the examples:

- `W̃_1[j,p], W̃_1[i,q]`: `x̃_p·x̃_q·(Σ_k φ''_k·W_2[k,j]·W_2[k,i]·a'_j·a'_i + [i = j]·Σ_k φ'_k·W_2[k,j]·a''_j)`
- `W̃_1[j,p], W̃_2[k,i]`: `x̃_p·(φ''_k·W_2[k,j]·a'_j·ã_i + [i = j]·φ'_k·a'_j)`
- `W̃_2[k,j], W̃_2[k,i]`: `φ''_k·ã_j·ã_i`, and 0 between different outputs.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from samirage.landscape import TanhNetwork
from samirage.points.proofs.balls import Matrix, flint, matrix


def network_derivatives(f: TanhNetwork) -> Callable[[Matrix], tuple[Matrix, Matrix]]:
    """Return the map from a box of parameters to enclosures of gradient and Hessian.

    Args:
        f: The network with its data.
    """
    return _NetworkBalls(f)


class _NetworkBalls:
    def __init__(self, f: TanhNetwork) -> None:
        self.n, self.width = f.inputs.shape
        self.outputs, self.hidden = f.targets.shape[1], f.hidden
        self.decay = flint().arb(f.weight_decay)
        extended = np.concatenate([f.inputs, np.ones((self.n, 1))], 1)
        self.x = matrix(extended)
        self.x_transposed = self.x.transpose()
        self.targets = [[flint().arb(t) for t in row] for row in f.targets.tolist()]
        rows = self.x.tolist()
        # All products x̃_p·x̃_q with q ≤ p, exact.
        arb_mat = flint().arb_mat
        self.pairs = arb_mat([[row[p] * row[q] for p in range(self.width + 1) for q in range(p + 1)] for row in rows])
        self.pairs_transposed = self.pairs.transpose()

    def __call__(self, theta: Matrix) -> tuple[Matrix, Matrix]:
        n, h, k, p = self.n, self.hidden, self.outputs, self.width + 1
        w_1, w_2, first_place, second_place = self._layers(theta.entries())
        arb_mat = flint().arb_mat
        a = [[z.tanh() for z in row] for row in (self.x * arb_mat(w_1).transpose()).tolist()]
        slope = [[1 - v * v for v in row] for row in a]
        bend = [[-2 * v * s for v, s in zip(*rows, strict=True)] for rows in zip(a, slope, strict=True)]
        extended = [[*row, flint().arb(1)] for row in a]
        y = [[o.tanh() for o in row] for row in (arb_mat(extended) * arb_mat(w_2).transpose()).tolist()]
        first, second = self._loss_derivatives(y)
        back = [[sum(d * w_2[c][j] for c, d in enumerate(row)) for j in range(h)] for row in first]

        size = theta.nrows()
        grad = [self.decay * t for t in theta.entries()]
        delta = arb_mat([[b * s for b, s in zip(*rows, strict=True)] for rows in zip(back, slope, strict=True)])
        for j, row in enumerate((delta.transpose() * self.x).tolist()):
            for q, value in enumerate(row):
                grad[first_place[j][q]] += value
        for c, row in enumerate((arb_mat(first).transpose() * arb_mat(extended)).tolist()):
            for j, value in enumerate(row):
                grad[second_place[c][j]] += value

        hessian = arb_mat(size, size)
        for i in range(size):
            hessian[i, i] = self.decay

        def put(i: int, j: int, value: Any) -> None:
            hessian[i, j] = hessian[i, j] + value
            if i != j:
                hessian[j, i] = hessian[i, j]

        units = [(j, i) for j in range(h) for i in range(j + 1)]
        # Σ_k φ''_k·W_2[k,j]·W_2[k,i] is one product of matrices for all examples and pairs of units.
        mixed = arb_mat(second) * arb_mat([[w_2[c][j] * w_2[c][i] for j, i in units] for c in range(k)])
        weights = [
            [
                mixed[e, u] * slope[e][j] * slope[e][i] + (back[e][j] * bend[e][j] if i == j else 0)
                for u, (j, i) in enumerate(units)
            ]
            for e in range(n)
        ]
        block = (self.pairs_transposed * arb_mat(weights)).tolist()
        corners = [(q, r) for q in range(p) for r in range(q + 1)]
        for u, (j, i) in enumerate(units):
            for v, (q, r) in enumerate(corners):
                put(first_place[j][q], first_place[i][r], block[v][u])
                if i != j and q != r:
                    put(first_place[j][r], first_place[i][q], block[v][u])

        targets = [(j, c, i) for j in range(h) for c in range(k) for i in range(h + 1)]
        weights = [
            [
                slope[e][j] * (second[e][c] * w_2[c][j] * extended[e][i] + (first[e][c] if i == j else 0))
                for j, c, i in targets
            ]
            for e in range(n)
        ]
        block = (self.x_transposed * arb_mat(weights)).tolist()
        for u, (j, c, i) in enumerate(targets):
            for q in range(p):
                put(first_place[j][q], second_place[c][i], block[q][u])

        corners = [(j, i) for j in range(h + 1) for i in range(j + 1)]
        products = arb_mat([[row[j] * row[i] for j, i in corners] for row in extended])
        block = (arb_mat(second).transpose() * products).tolist()
        for c in range(k):
            for u, (j, i) in enumerate(corners):
                put(second_place[c][j], second_place[c][i], block[c][u])
        return arb_mat(size, 1, grad), hessian

    def _layers(self, theta: list[Any]) -> tuple[list[Any], list[Any], list[list[int]], list[list[int]]]:
        """Both layers' weights with the biases as last column, and the place of every entry in the vector."""
        places = []
        start = 0
        for rows, columns in ((self.hidden, self.width), (self.outputs, self.hidden)):
            bias = start + rows * columns
            places.append([[*range(start + r * columns, start + (r + 1) * columns), bias + r] for r in range(rows)])
            start = bias + rows
        first, second = places
        return [[theta[i] for i in row] for row in first], [[theta[i] for i in row] for row in second], first, second

    def _loss_derivatives(self, y: list[list[Any]]) -> tuple[list[list[Any]], list[list[Any]]]:
        """`φ'` and `φ''` of every output of every example."""
        first, second = [], []
        for row, targets in zip(y, self.targets, strict=True):
            slopes = [1 - v * v for v in row]
            errors = [v - t for v, t in zip(row, targets, strict=True)]
            first.append([2 * e * s / self.n for e, s in zip(errors, slopes, strict=True)])
            second.append([2 * s * (s - 2 * e * v) / self.n for v, e, s in zip(row, errors, slopes, strict=True)])
        return first, second
