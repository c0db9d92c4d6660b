"""The mathematics of Sharpness-Aware Minimization, once: pure functions of tensors and frozen dataclasses.

Symbols used throughout the package, and the names that the code gives them:

| symbol | name | meaning |
|---|---|---|
| `x` | `params` | the parameters, a list of tensors |
| `f`, `g = grad f(x)` | `loss`, `grad` | loss and gradient at `x` |
| `u = g/‖g‖` | ascent direction | where SAM looks |
| `e` | `displacement` | the perturbation, `rho·u` for plain SAM |
| `x⁺ = x + e` | perturbed point | where SAM takes its gradient |
| `f⁺`, `g⁺` | `loss_plus`, `grad_plus` | loss and *shifted gradient* at `x⁺` |
| `r = ‖g⁺‖/‖g‖` | `shift_ratio` | tends to 0 at a hallucinated point |
| `s = u·g⁺` | `slope_plus` | slope at `x⁺` along the ascent direction |
| `G` | `ascent_gain` | realised over predicted gain in loss |

Every function takes one parameter list, or, with `batched=True`, a stack of them: each tensor then has a
leading dimension of S members (say, random seeds), nothing mixes between members, and scalars have shape (S,).
"""

from samirage.sam.edge import sam_edge
from samirage.sam.figures import (
    StepFigures,
    agreement,
    figures_of_products,
    is_at_hallucinated_point,
    plain_figures,
    step_figures,
)
from samirage.sam.lanczos import extreme_eigenvalues, top_eigenvector
from samirage.sam.map import (
    Jacobian,
    displacement,
    displacement_product,
    displacement_transpose_product,
    sam_map,
    surrogate,
    update_vector,
)
from samirage.sam.perturbation import Perturbation, ascent_direction, perturb
from samirage.sam.policies.driver import Plan, Policy, PolicyState, follow
from samirage.sam.policies.guard import AbstractGuard, Decision, Guard, GuardState
from samirage.sam.policies.lift import Lift
from samirage.sam.policies.mix import Mix
from samirage.sam.policies.schedule import (
    AbstractSchedule,
    Constant,
    Decay,
    Product,
    Ramp,
    Schedule,
    Tail,
    check_lengths,
    factor_at,
    radius_factor,
)
from samirage.sam.policies.warm_start import WarmStart
from samirage.sam.reductions import BATCHED, SINGLE, Reductions, dot, norm
from samirage.sam.stability import max_stable_lr, multipliers
from samirage.sam.status import Status
from samirage.sam.variants import (
    ASAM,
    GSAM,
    VARIANTS,
    AbstractVariant,
    LookSAM,
    Variant,
    VariantOptions,
    perturbation_of,
    variant_of,
)
from samirage.sam.window import CourseFigures, MotionFigures, MotionProducts, course_figures, motion_figures

__all__ = [
    "ASAM",
    "BATCHED",
    "GSAM",
    "SINGLE",
    "VARIANTS",
    "AbstractGuard",
    "AbstractSchedule",
    "AbstractVariant",
    "Constant",
    "CourseFigures",
    "Decay",
    "Decision",
    "Guard",
    "GuardState",
    "Jacobian",
    "Lift",
    "LookSAM",
    "Mix",
    "MotionFigures",
    "MotionProducts",
    "Perturbation",
    "Plan",
    "Policy",
    "PolicyState",
    "Product",
    "Ramp",
    "Reductions",
    "Schedule",
    "Status",
    "StepFigures",
    "Tail",
    "Variant",
    "VariantOptions",
    "WarmStart",
    "agreement",
    "ascent_direction",
    "check_lengths",
    "course_figures",
    "displacement",
    "displacement_product",
    "displacement_transpose_product",
    "dot",
    "extreme_eigenvalues",
    "factor_at",
    "figures_of_products",
    "follow",
    "is_at_hallucinated_point",
    "max_stable_lr",
    "motion_figures",
    "multipliers",
    "norm",
    "perturb",
    "perturbation_of",
    "plain_figures",
    "radius_factor",
    "sam_edge",
    "sam_map",
    "step_figures",
    "surrogate",
    "top_eigenvector",
    "update_vector",
    "variant_of",
]
