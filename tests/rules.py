"""The sixteen rules of trust, in short, each with the tests that hold it.

Data for two readers: ``test_rules.py``, which asserts that every test named here exists, and
``readme_sections.py``, which lists the rules and their tests in the README. A test is named ``folder/module::function``.

>>> RULES[6].text
'A rollback is new director metadata that names an older release, ...'
"""

from __future__ import annotations

from typing import NamedTuple


class Rule(NamedTuple):
    """``title`` in a few words, ``text`` in one sentence or two, ``tests`` that hold it."""

    title: str
    text: str
    tests: tuple[str, ...]


RULES: dict[int, Rule] = {
    1: Rule(
        "Three numbers",
        "Metadata version, release counter and display version are never mixed: nothing is ever "
        "decided by comparing display versions.",
        (
            "unit/test_release::test_a_version_is_a_display_version",
            "unit/test_image::test_the_counter_rises_only_with_a_security_fix",
            "journeys/test_waves::test_a_completed_rollout_is_taken_back_by_a_new_plan",
        ),
    ),
    2: Rule(
        "Versions only rise",
        "Metadata versions only rise, one version has one content, and only a root that replaces "
        "a role's keys resets its memory. Publishers store finished bytes before the first put "
        "and repeat exactly those.",
        (
            "attacks/test_rollback::test_rollback",
            "attacks/test_equivocation::test_of_the_director",
            "unit/test_trust_room::test_director_refused_and_nothing_changes",
            "unit/test_trust_room::test_fast_forward_is_undone_by_replacing_the_key",
            "unit/test_publishing::test_a_publish_that_dies_is_completed_with_the_same_bytes",
            "journeys/test_crashes::test_publisher_killed",
        ),
    ),
    3: Rule(
        "Counter and hardware are signed offline",
        "Release counter and hardware ids stand in the image repository, signed offline; the "
        "director repeats them, and both must agree.",
        (
            "attacks/test_wrong_hardware::test_wrong_hardware",
            "attacks/test_disagreement::test_about_the_counter",
            "unit/test_trust_room::test_held",
        ),
    ),
    4: Rule(
        "Floors",
        "A release is installed only at or above the component's floor, which is durable, starts "
        "at the factory image's counter, and outlives the component's removal.",
        (
            "attacks/test_below_floor::test_below_floor",
            "attacks/test_floor_laundering::test_through_an_empty_assignment",
            "unit/test_trust_room::test_below_floor",
            "unit/test_agent_switch::test_floor_outlives_everything",
        ),
    ),
    5: Rule(
        "When a floor rises",
        "Only after a commit, to the lowest counter of the bootable slots. A committed security "
        "fix drops a lower previous slot after its soak, and the plan says that this closes the "
        "way back.",
        (
            "unit/test_agent_switch::test_floor_follows_the_lowest_bootable_counter",
            "unit/test_agent_switch::test_security_fix_closes_its_way_back_after_its_soak",
            "journeys/test_waves::test_a_security_fix_closes_its_way_back",
        ),
    ),
    6: Rule(
        "Rolling back is signed",
        "A rollback is new director metadata that names an older release, still listed, unexpired "
        "and at or above the floor. Nothing lowers a floor.",
        (
            "journeys/test_waves::test_canary_fails_and_its_healthy_neighbour_goes_back",
            "journeys/test_real_input::test_firmware_of_a_debian_package",
            "unit/test_director::test_the_way_back_replaces_the_update",
        ),
    ),
    7: Rule(
        "The way back is frozen",
        "The plan freezes what each device runs, and back means that. A device that differs at "
        "dispatch is left out; blocked and unknown ways back are told before anything moves, and "
        "unmanaged content is never a way back.",
        (
            "unit/test_engine::test_a_device_that_differs_from_the_plan_is_left_out",
            "unit/test_campaign_moves::test_rollback_plans_first",
            "unit/test_director::test_no_way_back_to_what_the_plan_does_not_know",
        ),
    ),
    8: Rule(
        "What failed is denied",
        "A release that failed its health on a device is not tried there again until a signed "
        "assignment says so.",
        (
            "journeys/test_waves::test_denied_until_a_signed_assignment_clears_it",
            "unit/test_agent_cycle::test_failed_again_after_clearance_is_denied_again",
        ),
    ),
    9: Rule(
        "Nothing in use is taken off",
        "A release is not yanked while director metadata or the way back of an open rollout "
        "names it.",
        (
            "journeys/test_lifecycle::test_a_release_in_use_is_not_taken_off",
            "unit/test_release::test_a_release_in_use_is_not_yanked",
        ),
    ),
    10: Rule(
        "Stopping withdraws",
        "Pause, hold and abort first publish director metadata without the assignments that no "
        "device has activated, then cancel at the courier. Devices to which the old metadata can "
        "still be replayed are counted as exposed, and cancelling never downgrades.",
        (
            "journeys/test_waves::test_pause_takes_back_what_nobody_activated",
            "journeys/test_waves::test_abort",
            "attacks/test_live_after_abort::test_replayed_to_who_has_not",
            "journeys/test_crashes::test_engine_killed",
        ),
    ),
    11: Rule(
        "Expiry stops updates, not devices",
        "Expired metadata is stale: signed, visible, and what runs runs on. The used time is the "
        "later of the clock and a floor that only verified metadata raises, so a wrong clock "
        "heals.",
        (
            "journeys/test_liars::test_clock_ten_years_ahead_for_one_cycle",
            "journeys/test_liars::test_clock_ten_years_behind",
            "journeys/test_liars::test_clock_of_a_real_process",
            "attacks/test_freeze::test_everything_frozen",
            "unit/test_trust_room::test_floor_can_not_be_poisoned",
        ),
    ),
    12: Rule(
        "A thief of the director key",
        "can choose among listed releases at or above the floor for that component and hardware, "
        "or withhold, until the root replaces the key; and nothing else.",
        (
            "attacks/test_thief_director_key::test_it_can_choose_among_listed_releases",
            "attacks/test_thief_director_key::test_it_can_not_assign",
            "attacks/test_thief_director_key::test_it_can_not_say_more",
            "attacks/test_thief_director_key::test_it_can_not_lower_a_floor",
            "attacks/test_thief_director_key::test_it_can_not_move_a_clock",
            "attacks/test_thief_director_key::test_it_can_not_make_a_rollout_succeed",
        ),
    ),
    13: Rule(
        "Reports are signed by devices",
        "A report counts only when signed by that device's registered key, about the order that "
        "was signed for it, with a counter that rises. A new incarnation waits for a person, and "
        "reports never register keys.",
        (
            "attacks/test_forged_report::test_forged",
            "attacks/test_forged_report::test_signed_by_another_device",
            "attacks/test_wrong_order_report::test_the_right_key_about_a_wrong_order",
            "attacks/test_replayed_report::test_replayed",
            "attacks/test_replayed_report::test_a_counter_that_does_not_rise",
            "attacks/test_replayed_report::test_two_contents_under_one_counter",
            "attacks/test_cloned_device::test_a_new_incarnation_waits_for_a_person",
            "attacks/test_forged_report::test_of_an_unknown_device",
        ),
    ),
    14: Rule(
        "Roots are files, names are checked",
        "Roots reach a device as files whose fingerprints are compared, never from the store; "
        "identifiers are checked before any path is made of them.",
        (
            "journeys/test_lifecycle::test_provisioning_wants_both_fingerprints",
            "journeys/test_lifecycle::test_the_first_root_never_comes_from_the_store",
            "journeys/test_lifecycle::test_a_device_is_no_path",
            "journeys/test_liars::test_a_next_root_that_is_none",
            "unit/test_director::test_a_device_id_is_checked_before_any_path",
        ),
    ),
    15: Rule(
        "What is approved is what runs",
        "A plan is exact bytes signed by its author; an approval binds its digest, the workspace, "
        "the scope and an end. Approvers are a target of the image repository, an author never "
        "counts, and the director's signer checks it all before each assignment.",
        (
            "attacks/test_plan_changed::test_plan_changed_after_approval",
            "attacks/test_approval_replayed::test_for_another_plan",
            "attacks/test_approval_replayed::test_in_another_workspace",
            "attacks/test_self_approval::test_author_approves_for_themselves",
            "attacks/test_self_approval::test_two_authors_do_not_approve_for_each_other",
            "attacks/test_self_approval::test_operator_names_themselves_approver",
            "attacks/test_expired_approval::test_expired_approval",
            "attacks/test_outside_the_plan::test_outside_the_plan",
        ),
    ),
    16: Rule(
        "Image first, director first",
        "Publishing goes to the image repository before the director, taking back the other way "
        "round; an assignment says from which image snapshot on its release is listed, and behind "
        "it a device waits without accusing anybody.",
        (
            "attacks/test_freeze::test_the_image_repository_frozen",
            "journeys/test_lifecycle::test_a_release_in_use_is_not_taken_off",
            "unit/test_publishing::test_an_edition_goes_in_order",
        ),
    ),
}
