"""The checker's derivatives of a tanh network's loss: backpropagation, differentiated forward, one parameter at a time.

The prover's closed form of the Hessian is not used, nor anything else of the prover's.
"""

from collections.abc import Callable, Sequence
from typing import Any

from samirage.errors import require

Rows = list[list[Any]]


def network_check_derivatives(f: Any) -> Callable[[Sequence[Any]], tuple[Any, Any]]:
    """Return the map from balls of parameters to enclosures of gradient and Hessian.

    Args:
        f: A `TanhNetwork`; its data are read, and nothing else.
    """
    flint = require("proof", "flint")
    count, width = f.inputs.shape
    outputs, hidden = f.targets.shape[1], f.hidden
    inputs = flint.arb_mat(f.inputs.tolist())
    data, targets = inputs.tolist(), flint.arb_mat(f.targets.tolist()).tolist()
    examples, units, classes = range(count), range(hidden), range(outputs)

    def derive(theta: Sequence[Any]) -> tuple[Any, Any]:
        rest = list(theta)
        w_1 = [[rest.pop(0) for _ in range(width)] for _ in units]
        b_1 = [rest.pop(0) for _ in units]
        w_2 = [[rest.pop(0) for _ in units] for _ in classes]
        b_2 = [rest.pop(0) for _ in classes]
        z = inputs * flint.arb_mat(w_1).transpose()
        z_rows = [[z[e, j] + b_1[j] for j in units] for e in examples]
        a = [[v.tanh() for v in row] for row in z_rows]
        a_1 = [[1 / v.cosh() ** 2 for v in row] for row in z_rows]
        o = flint.arb_mat(a) * flint.arb_mat(w_2).transpose()
        o_rows = [[o[e, c] + b_2[c] for c in classes] for e in examples]
        y = [[v.tanh() for v in row] for row in o_rows]
        y_1 = [[1 / v.cosh() ** 2 for v in row] for row in o_rows]
        error = [[y[e][c] - targets[e][c] for c in classes] for e in examples]
        delta = [[2 * error[e][c] * y_1[e][c] / count for c in classes] for e in examples]
        passed = (flint.arb_mat(delta) * flint.arb_mat(w_2)).tolist()
        below = [[passed[e][j] * a_1[e][j] for j in units] for e in examples]
        grad = _gathered(flint, inputs, a, delta, below)

        def column(o_dot: Rows, a_dot: Rows | None, moved: tuple[int, int] | None) -> list[Any]:
            """Derivative of the gradient, from those of the outputs, the activations and (one entry of) `W_2`."""
            # The derivative of (y − t)·y' is y'·y' − 2·(y − t)·y·y'.
            turn = [
                [2 * y_1[e][c] * (y_1[e][c] - 2 * error[e][c] * y[e][c]) * o_dot[e][c] / count for c in classes]
                for e in examples
            ]
            passed_dot = (flint.arb_mat(turn) * flint.arb_mat(w_2)).tolist()
            if moved is not None:
                c, j = moved
                for e in examples:
                    passed_dot[e][j] = passed_dot[e][j] + delta[e][c]
            below_dot = [[passed_dot[e][j] * a_1[e][j] for j in units] for e in examples]
            if a_dot is not None:
                # tanh'' = −2·tanh·tanh', and a_dot = tanh'·z_dot.
                below_dot = [
                    [below_dot[e][j] - 2 * passed[e][j] * a[e][j] * a_dot[e][j] for j in units] for e in examples
                ]
            return _gathered(flint, inputs, a, turn, below_dot, a_dot, delta)

        zero = flint.arb(0)
        columns = []
        moves = [(j, p) for j in units for p in range(width)] + [(j, None) for j in units]
        for j, p in moves:
            factor = [data[e][p] if p is not None else flint.arb(1) for e in examples]
            a_dot = [[a_1[e][i] * factor[e] if i == j else zero for i in units] for e in examples]
            o_dot = [[w_2[c][j] * a_dot[e][j] for c in classes] for e in examples]
            columns.append(column(o_dot, a_dot, None))
        for c, j in [(c, j) for c in classes for j in units]:
            o_dot = [[a[e][j] if i == c else zero for i in classes] for e in examples]
            columns.append(column(o_dot, None, (c, j)))
        for c in classes:
            o_dot = [[flint.arb(int(i == c)) for i in classes] for e in examples]
            columns.append(column(o_dot, None, None))
        size = len(theta)
        hessian = flint.arb_mat(columns).transpose()
        decay = flint.arb(f.weight_decay)
        for i in range(size):
            hessian[i, i] = hessian[i, i] + decay
        return flint.arb_mat(size, 1, [v + decay * t for v, t in zip(grad, theta, strict=True)]), hessian

    return derive


def _gathered(
    flint: Any,
    inputs: Any,
    a: Rows,
    delta: Rows,
    below: Rows,
    a_dot: Rows | None = None,
    delta_before: Rows | None = None,
) -> list[Any]:
    """Sum over the examples what reaches each parameter, in the order `W_1, b_1, W_2, b_2`."""
    low, high = flint.arb_mat(below).transpose(), flint.arb_mat(delta).transpose()
    ones = flint.arb_mat(len(a), 1, [1] * len(a))
    last = high * flint.arb_mat(a)
    if a_dot is not None:
        last = last + flint.arb_mat(delta_before).transpose() * flint.arb_mat(a_dot)
    return [*(low * inputs).entries(), *(low * ones).entries(), *last.entries(), *(high * ones).entries()]
