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


def flat(arrays):
    return np.concatenate([a.ravel() for a in arrays])


def like(vector, arrays):
    """Cut a vector into arrays of the given shapes."""
    parts = np.split(vector, np.cumsum([a.size for a in arrays])[:-1])
    return [part.reshape(a.shape) for part, a in zip(parts, arrays, strict=True)]


def perturbed(params, grads, rule, rho, *, eta=0.0, biases=True):
    """x + e, written out for the whole parameter vector at once; with ASAM's `eta`, and `biases`: the 1-D arrays."""
    w, g = flat(params), flat(grads)
    scale = np.where(flat([np.full(a.shape, not biases and a.ndim == 1) for a in params]), 1.0, np.abs(w) + eta)
    e = {
        "asam": lambda: rho * scale**2 * g / np.linalg.norm(scale * g),
        "unnormalized": lambda: rho * g,
    }.get(rule, lambda: rho * g / np.sqrt(g @ g))()
    return like(w + e, params)


def train(params, x, onehot, *, rule, rho, lr, steps, schedule=None, alpha=None, k=1, **options):
    """Full-batch descent along the gradient at x + e (rule "plain": at x): last weights, and the loss at each x.

    Rule "gsam" takes off `alpha` times the part of g orthogonal to g⁺; rule "looksam" takes the gradient at x + e in
    one of `k` steps, and adds its part orthogonal to g, brought to the length of g and times `alpha`, in the others.
    """
    losses = []
    for t in range(steps):
        loss, grads = loss_and_grads(params, x, onehot)
        losses.append(loss)
        g, d = flat(grads), flat(grads)
        if rule != "plain" and t % k == 0:
            radius = rho if schedule is None else rho * schedule(t)
            _, grads_plus = loss_and_grads(perturbed(params, grads, rule, radius, **options), x, onehot)
            d = flat(grads_plus)
            cosine = g @ d / (np.linalg.norm(g) * np.linalg.norm(d))
            g_v = d - np.linalg.norm(d) * cosine * g / np.linalg.norm(g)
            if rule == "gsam":
                d = d - alpha * (g - np.linalg.norm(g) * cosine * d / np.linalg.norm(d))
        elif rule == "looksam":
            d = g + alpha * np.linalg.norm(g) / np.linalg.norm(g_v) * g_v
        params = [w - lr * step for w, step in zip(params, like(d, params), strict=True)]
    return params, np.array(losses)
