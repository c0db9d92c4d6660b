"""Run optax.contrib.sam through the behaviours that have a meaning in JAX, and store what happened.

Usage: optax_probes.py [--out FILE], in an environment with benchmarks/peers/requirements-optax.txt.

Where nothing else is said it runs in its opaque mode, in which one call of `update` makes a whole step.
"""

import argparse
import pickle
import platform
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
import optax

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.peers.outcome import Outcome, observed, store

jax.config.update("jax_enable_x64", True)

_EXACT: Final = 1e-12
_DRIFT_STEPS: Final = 2000

Loss = Callable[[Any], Any]


def _sam(rho: float, base: Any, *, opaque: bool = True) -> Any:
    ascent = optax.chain(optax.contrib.normalize(), optax.sgd(rho))
    return optax.contrib.sam(base, ascent, sync_period=2, opaque_mode=opaque)


def _step(optimizer: Any, loss: Loss, params: Any, state: Any) -> tuple[Any, Any]:
    gradient = jax.grad(loss)
    updates, state = optimizer.update(gradient(params), state, params, grad_fn=lambda p, _: gradient(p))
    return optax.apply_updates(params, updates), state


def _one_step(loss: Loss, params: Any, *, rho: float = 0.5, lr: float = 0.1) -> Any:
    optimizer = _sam(rho, optax.sgd(lr))
    return _step(optimizer, loss, params, optimizer.init(params))[0]


def _cubic_error() -> float:
    x, a = np.array([1.0, -2.0]), np.array([1.0, 2.0])
    grad = a * x**2
    plus = x + 0.5 * grad / np.linalg.norm(grad)
    end = _one_step(lambda w: (jnp.asarray(a) * w**3).sum() / 3, jnp.asarray(x))
    return float(np.abs(np.asarray(end) - (x - 0.1 * a * plus**2)).max())


def sam_gradient() -> Outcome:
    """Compare one step with the step computed by hand."""
    error = _cubic_error()
    return Outcome(error < 1e-6, f"error {error:.0e}")


def double_precision() -> Outcome:
    """Likewise, to the precision of float64."""
    error = _cubic_error()
    return Outcome(error < _EXACT, f"error {error:.0e}")


def zero_radius() -> Outcome:
    """Compare rho = 0 with the base optimizer."""
    figures = []
    for base in (optax.sgd(0.01, 0.9), optax.adamw(0.01)):
        start = jnp.linspace(-1.0, 1.0, 7, dtype=jnp.float32)
        loss = lambda w: (w**4).sum()  # noqa: E731
        a = b = start
        wrapped = _sam(0.0, base)
        state_a, state_b = wrapped.init(a), base.init(b)
        for _ in range(5):
            a, state_a = _step(wrapped, loss, a, state_a)
            updates, state_b = base.update(jax.grad(loss)(b), state_b, b)
            b = optax.apply_updates(b, updates)
        figures.append(float(jnp.abs(a - b).max()))
    return Outcome(max(figures) == 0, f"difference {max(figures):.0e}")


def exception_in_pass_2() -> Outcome:
    """Raise in the gradient function: parameters are values, which no call changes."""
    params = jnp.array([1.0, -2.0])
    optimizer = _sam(0.5, optax.sgd(0.1))

    def fail(_params: Any, _step: int) -> Any:
        raise MemoryError("as if the memory had run out")

    try:
        optimizer.update(params**2, optimizer.init(params), params, grad_fn=fail)
    except MemoryError:
        off = float(jnp.abs(params - jnp.array([1.0, -2.0])).max())
        return Outcome(off == 0, f"weights are off by {off:.2g}")
    return Outcome(False, "the exception was swallowed")


def drift() -> Outcome:
    """Take steps at learning rate 0, in both modes."""
    figures = []
    for opaque in (True, False):
        for dtype in (jnp.float32, jnp.bfloat16):
            key = jax.random.key(0)
            home = params = jax.random.uniform(key, (16, 4), minval=-0.25, maxval=0.25).astype(dtype)
            optimizer = _sam(0.05, optax.sgd(0.0), opaque=opaque)
            state = optimizer.init(params)

            def loss(w: Any, i: Any, dtype: Any = dtype) -> Any:
                x = jax.random.normal(jax.random.fold_in(jax.random.key(1), i), (8, 16)).astype(dtype)
                return (x @ w).astype(jnp.float32).std()

            def update(params: Any, state: Any, i: Any, optimizer: Any = optimizer, loss: Any = loss) -> Any:
                def gradient(p: Any, _: int = 0) -> Any:
                    return jax.grad(loss)(p, i)

                updates, state = optimizer.update(gradient(params), state, params, grad_fn=gradient)
                return optax.apply_updates(params, updates), state

            compiled: Any = jax.jit(update)
            for i in range(_DRIFT_STEPS * (1 if opaque else 2)):
                params, state = compiled(params, state, i)
            figures.append(float(jnp.abs(params.astype(jnp.float32) - home.astype(jnp.float32)).max()))
    opaque_32, opaque_16, plain_32, plain_16 = figures
    text = f"float32: {plain_32:.1g}, bfloat16: {plain_16:.1g}; in its opaque mode {opaque_32:.1g} and {opaque_16:.1g}"
    return Outcome(max(figures) == 0, text)


def extreme_gradients() -> Outcome:
    """Measure ‖e‖/rho for gradients of extreme size."""
    radii = []
    for scale, dtype, n in ((1e-25, jnp.float32, 1000), (1e20, jnp.float32, 1000), (1e3, jnp.float16, 10_000)):
        ascent = optax.chain(optax.contrib.normalize(), optax.sgd(0.5))
        grads = jnp.full((n,), scale, dtype)
        e, _ = ascent.update(grads, ascent.init(grads), grads)
        radii.append(float(np.linalg.norm(np.asarray(e, dtype=np.float64)) / 0.5))
    figure = ", ".join(f"{radius:.3g}" for radius in radii)
    return Outcome(all(abs(radius - 1) < 0.02 for radius in radii), f"‖e‖/rho = {figure}")


def zero_gradient() -> Outcome:
    """Take a step where the gradient is 0."""
    end = _one_step(lambda w: ((w - jnp.array([1.0, 2.0])) ** 2).sum(), jnp.array([1.0, 2.0]))
    return Outcome(bool((end == jnp.array([1.0, 2.0])).all()), f"weights (1, 2) become ({end[0]:g}, {end[1]:g})")


def zero_loss() -> Outcome:
    """Take a step where the loss is 0 and its gradient is not."""
    end = float(_one_step(lambda w: (w - 3).sum(), jnp.array([3.0]))[0])
    return Outcome(abs(end - 2.9) < _EXACT, f"w goes from 3 to {end:.3g}; 2.9 is right")


def not_a_number() -> Outcome:
    """Let a gradient be NaN in either pass."""
    spoilt = []
    for bad in (1, 2):
        params = jnp.array([1.0, -2.0])
        optimizer = _sam(0.5, optax.sgd(0.1, 0.9))
        state = optimizer.init(params)
        for wrong in (bad, 0):
            grads = params**2 * (jnp.nan if wrong == 1 else 1.0)
            factor = jnp.nan if wrong == 2 else 1.0
            updates, state = optimizer.update(grads, state, params, grad_fn=lambda p, _, factor=factor: factor * p**2)
            params = optax.apply_updates(params, updates)
        if not bool(jnp.isfinite(params).all()):
            spoilt.append(str(bad))
    figure = f"weights are NaN after one in pass {' or '.join(spoilt)}" if spoilt else "weights finite"
    return Outcome(not spoilt, figure)


def resume() -> Outcome:
    """Save state and parameters after four steps, and go on."""
    loss = lambda w: (w**4).sum()  # noqa: E731
    figures = []
    for base in (optax.sgd(0.05, 0.9), optax.adamw(0.01)):
        optimizer = _sam(0.05, base)
        ends = []
        for interrupted in (True, False):
            params = jnp.linspace(-1.0, 1.0, 7)
            state = optimizer.init(params)
            for i in range(8):
                if interrupted and i == 4:
                    params, state = pickle.loads(pickle.dumps((params, state)))
                params, state = _step(optimizer, loss, params, state)
            ends.append(params)
        figures.append(float(jnp.abs(ends[0] - ends[1]).max()))
    return Outcome(max(figures) == 0, f"off by {figures[0]:.1g} (SGD with momentum), {figures[1]:.1g} (AdamW)")


PROBES: Final[Mapping[str, Callable[[], Outcome]]] = MappingProxyType(
    {
        probe.__name__: probe
        for probe in (
            sam_gradient,
            double_precision,
            zero_radius,
            exception_in_pass_2,
            drift,
            extreme_gradients,
            zero_gradient,
            zero_loss,
            not_a_number,
            resume,
        )
    }
)


def main() -> None:
    """Run and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).resolve().parents[2] / "results" / "peers" / "optax.json"
    parser.add_argument("--out", type=Path, default=default, help="file to write to [%(default)s]")
    options = parser.parse_args()
    outcomes = {}
    for key, probe in PROBES.items():
        outcomes[key] = observed(probe)
        print(key, outcomes[key])
    versions = {"python": platform.python_version(), "jax": jax.__version__, "numpy": np.__version__}
    store(options.out, title="optax", source=f"optax {optax.__version__}", versions=versions, outcomes=outcomes)


if __name__ == "__main__":
    main()
