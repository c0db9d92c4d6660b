"""SAM the slow and plain way: a two-layer tanh network in NumPy float64, derivatives by hand, nothing of the package.

The loss is the mean over images of the sum over classes of (softmax(z) − onehot)².
"""

import numpy as np


def loss_and_grads(params, x, onehot):
    """Loss and its gradient; params = [W1 (hidden, in), b1, W2 (classes, hidden), b2], as in torch.nn.Linear."""
    w1, b1, w2, b2 = params
    h = np.tanh(x @ w1.T + b1)
    z = h @ w2.T + b2
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    dp = 2 * (p - onehot) / len(x)
    dz = p * (dp - (p * dp).sum(1, keepdims=True))
    da = (dz @ w2) * (1 - h**2)
    return ((p - onehot) ** 2).sum() / len(x), [da.T @ x, da.sum(0), dz.T @ h, dz.sum(0)]


def perturbed(params, grads, rule, rho):
    """x + e, written out for the whole parameter vector at once."""
    w, g = (np.concatenate([a.ravel() for a in arrays]) for arrays in (params, grads))
    e = {
        "sam": lambda: rho * g / np.sqrt(g @ g),
        "asam": lambda: rho * w**2 * g / np.sqrt((w * g) @ (w * g)),
        "unnormalized": lambda: rho * g,
    }[rule]()
    parts = np.split(w + e, np.cumsum([a.size for a in params])[:-1])
    return [part.reshape(a.shape) for part, a in zip(parts, params, strict=True)]


def train(params, x, onehot, *, rule, rho, lr, steps):
    """Full-batch descent along the gradient at x + e (rule "plain": at x): last weights, and the loss at each x."""
    losses = []
    for _ in range(steps):
        loss, grads = loss_and_grads(params, x, onehot)
        losses.append(loss)
        if rule != "plain":
            _, grads = loss_and_grads(perturbed(params, grads, rule, rho), x, onehot)
        params = [w - lr * g for w, g in zip(params, grads, strict=True)]
    return params, np.array(losses)
