"""What a run, or a point, can be: one vocabulary for the diagnosis of runs and the certificates of points."""

from enum import Enum


class Status(Enum):
    """A class of SAM's behaviour, with what to do about it.

    Each member has a `meaning` and an `advice`, one sentence each, and `is_hallucinated`: whether SAM is held where the
    loss has slope, by a shifted gradient that vanishes or turns around. The hallucinated classes are those at which the
    shifted gradient `g⁺` vanishes, or only turns around, although the gradient `g` does not vanish (Park, Jang, Ryu
    and Yang, arXiv 2509.21818); the bouncing ones follow Long and Bartlett (arXiv 2309.12488) and the traps Compagnoni
    et al. (arXiv 2302.09203) and Kim et al. (arXiv 2301.06308).

    Example:
        >>> Status.HALLUCINATED_MINIMIZER.is_hallucinated, Status.STATIONARY.is_hallucinated
        (True, False)
        >>> Status("stationary").advice
        'Training is finished: stop, or lower the learning rate to polish.'
    """

    meaning: str
    advice: str
    is_hallucinated: bool

    INACTIVE = (
        "inactive",
        "The steps are those of the base optimizer: the gradient was not taken at a perturbed point.",
        "Check the loop: pass 2 must run a new forward and backward pass while the weights are perturbed.",
    )
    STATIONARY = (
        "stationary",
        "The gradient and the shifted gradient have both vanished: the run rests at a stationary point.",
        "Training is finished: stop, or lower the learning rate to polish.",
    )
    HALLUCINATED_MINIMIZER = (
        "hallucinated minimizer",
        "The shifted gradient vanishes, at a lower loss beyond a ridge, although the gradient does not: SAM rests "
        "where the loss has slope.",
        "Lower rho, train on with a Guard, Mix or Lift, or restart with a WarmStart; where extra passes confirm it, "
        "the near-stationary point is the perturbed one.",
    )
    HALLUCINATED_SADDLE = (
        "hallucinated saddle",
        "The shifted gradient vanishes at a perturbed point that is a saddle, although the gradient does not.",
        "Do not move to the perturbed point; lower rho, or restart with a WarmStart and a Guard.",
    )
    HALLUCINATED_PLATEAU = (
        "hallucinated plateau",
        "The shifted gradient vanishes because the perturbed point lies where the loss is flat and no lower, although "
        "the gradient does not.",
        "Do not move to the perturbed point; lower rho, or restart with a WarmStart and a Guard.",
    )
    HALLUCINATED_BOUNCE = (
        "hallucinated bounce",
        "The steps cancel although the loss has slope all along: SAM bounces about a hallucinated point.",
        "Lower the learning rate first, then rho, or use a Guard.",
    )
    BOUNCING_MINIMIZER = (
        "bouncing about a minimizer",
        "The steps cancel across the valley of a true minimizer, where the mean gradient vanishes: the SAM edge.",
        "Decay rho or the learning rate, or average the weights.",
    )
    SADDLE_TRAP = (
        "saddle trap",
        "The steps cancel at a true saddle, to which SAM is drawn along the directions of descent too.",
        "Use momentum, smaller batches or a smaller rho, or begin with a WarmStart.",
    )
    MAXIMIZER_TRAP = (
        "maximizer trap",
        "The steps cancel at a maximum or on a ridge, across which the perturbed point lies lower.",
        "Lower rho, or use a Guard.",
    )
    DRIFTING = (
        "drifting into hallucination",
        "The weights still move, but mostly against or across their own slope: SAM looks across a ridge at most steps.",
        "Lower rho now or switch to a Guard, before the run freezes.",
    )
    PROGRESSING = (
        "progressing",
        "The steps follow the slope of the loss, and the loss still falls.",
        "Nothing to do: wait.",
    )
    DIVERGED = (
        "diverged",
        "The loss or the gradient is no longer finite.",
        "Go back to the last finite checkpoint and lower the learning rate.",
    )
    UNDECIDED = (
        "undecided",
        "The figures fit none of the classes.",
        "Look at the figures and their margins, or confirm with an Objective.",
    )
    # At the end, because stored results number the members in this order.
    HALLUCINATED_MAXIMIZER = (
        "hallucinated maximizer",
        "The shifted gradient vanishes at a perturbed point that is a maximizer, although the gradient does not.",
        "Do not move to the perturbed point, from which the loss falls on all sides; lower rho, or use a Guard.",
    )

    def __new__(cls, value: str, meaning: str, advice: str) -> "Status":
        """Give every member its value, its meaning and its advice."""
        member = object.__new__(cls)
        member._value_ = value
        member.meaning = meaning
        member.advice = advice
        member.is_hallucinated = value.startswith("hallucinated")
        return member

    @property
    def is_alarm(self) -> bool:
        """Whether the run should be changed: it is not one that progresses, rests, or goes about a minimizer."""
        return self not in {
            Status.PROGRESSING,
            Status.STATIONARY,
            Status.BOUNCING_MINIMIZER,
            Status.UNDECIDED,
        }
