"""A soundness fuzzer of `samirage.points.prove` and its checker: random formulas, an independent oracle, mutations."""
