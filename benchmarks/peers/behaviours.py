"""The rows of the comparison: a sentence, the program that says whether it holds, and samirage's own tests of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from benchmarks.peers import effects, failures, memory, ranks, state, steps
from benchmarks.peers.adapters import Peer
from benchmarks.peers.outcome import Outcome


@dataclass(frozen=True)
class Behaviour:
    """One row.

    Attributes:
        probe: The program; its docstring is the sentence that holds or does not.
        tests: Names of tests of samirage that fail if it does not hold.
    """

    probe: Callable[[Peer], Outcome]
    tests: tuple[str, ...]

    @property
    def key(self) -> str:
        """The probe's name."""
        return self.probe.__name__

    @property
    def sentence(self) -> str:
        """What holds or does not."""
        assert self.probe.__doc__ is not None
        return " ".join(self.probe.__doc__.split()).removesuffix(".")


BEHAVIOURS: Final = (
    Behaviour(
        steps.sam_gradient,
        ("test_a_step_uses_the_hand_computed_sam_gradient", "test_agrees_with_the_reference_over_100_steps"),
    ),
    Behaviour(steps.double_precision, ("test_a_step_uses_the_hand_computed_sam_gradient",)),
    Behaviour(steps.closure_alone, ("test_a_step_uses_the_hand_computed_sam_gradient",)),
    Behaviour(steps.returned_loss, ("test_the_closure_is_called_twice_and_the_loss_at_x_comes_back",)),
    Behaviour(steps.zero_radius, ("test_radius_zero_is_the_base_optimizer_bit_for_bit_in_one_pass",)),
    Behaviour(steps.group_radii, ("test_a_step_uses_the_hand_computed_sam_gradient",)),
    Behaviour(failures.exception_in_pass_2, ("test_an_exception_in_the_second_pass_brings_everything_back",)),
    Behaviour(failures.storage, ("test_an_exception_in_the_second_pass_brings_everything_back",)),
    Behaviour(failures.drift, ("test_no_drift_in_2000_steps_at_learning_rate_zero",)),
    Behaviour(steps.narrow_perturbation, ("test_the_perturbation_of_half_precision_weights_is_right_on_average",)),
    Behaviour(
        steps.extreme_gradients,
        ("test_gradients_of_extreme_size_perturb_by_rho", "test_fp16_gradients_near_the_end_of_their_range"),
    ),
    Behaviour(steps.zero_gradient, ("test_a_zero_gradient_perturbs_by_zero",)),
    Behaviour(failures.not_a_number, ("test_a_gradient_that_is_not_finite_skips_the_whole_step",)),
    Behaviour(steps.zero_loss, ("test_losses_of_zero_of_no_kind_and_of_odd_shapes",)),
    Behaviour(failures.gradient_in_pass_1_only, ("test_a_gradient_in_one_of_the_passes_only",)),
    Behaviour(steps.sparse_gradient, ("test_sparse_gradients_do_as_dense_ones",)),
    Behaviour(failures.gradient_scaler, ("test_a_loss_scale_changes_nothing",)),
    Behaviour(failures.overflow, ("test_an_overflow_in_either_pass_skips_the_step_and_lowers_the_scale_once",)),
    Behaviour(effects.batch_norm, ("test_buffers_are_those_of_one_plain_pass",)),
    Behaviour(effects.helper_twice, ()),
    Behaviour(effects.dropout, ("test_dropout_masks_are_equal_in_both_passes_and_differ_between_steps",)),
    Behaviour(state.resume, ("test_a_saved_and_loaded_run_continues_bit_for_bit",)),
    Behaviour(state.temporaries, ("test_the_state_holds_the_bases_and_a_count_and_no_temporaries",)),
    Behaviour(state.copies, ("test_copies_continue_bit_for_bit_and_apart",)),
    Behaviour(state.added_group, ("test_a_group_added_later_takes_part",)),
    Behaviour(state.scheduler, ("test_a_scheduler_on_either_object_works_without_a_warning",)),
    Behaviour(steps.evaluations, ("test_one_in_every_three_steps_takes_two_passes",)),
    Behaviour(memory.peak_memory, ("test_one_copy_of_the_weights_during_the_second_pass_and_none_between_steps",)),
    Behaviour(memory.kept_memory, ("test_one_copy_of_the_weights_during_the_second_pass_and_none_between_steps",)),
    Behaviour(ranks.ddp, ("test_ddp_equals_one_process_and_reduces_nothing_of_its_own",)),
    Behaviour(ranks.m_sharpness, ("test_local_scope_is_m_sharpness_and_synchronises_the_perturbed_pass_only",)),
    Behaviour(ranks.fsdp, ("test_fsdp_equals_one_process",)),
)
