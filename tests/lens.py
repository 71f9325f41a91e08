"""The security principles of the AWS IoT Lens, each with what this does about it and its tests.

Data for two readers: ``test_rules.py``, which asserts that every test named here exists, and
``readme_sections.py``, which lists them in the README. A test is named ``folder/module::function``.

>>> LENS["least privilege for each device"].tests[0]
'contract/test_iot_feed_broker::test_one_device_can_not_touch_another'
"""

from __future__ import annotations

from typing import NamedTuple


class Principle(NamedTuple):
    """``answer``: what is done about it, in a sentence or two; ``tests`` that show it."""

    answer: str
    tests: tuple[str, ...]


LENS: dict[str, Principle] = {
    "security over a device's whole life": Principle(
        "From provisioning with two root fingerprints, over every update, to a signed last word when "
        "it is wiped. Releases have an epoch that only rises, and old ones stay out.",
        (
            "journeys/test_lifecycle::test_provisioning_wants_both_fingerprints",
            "unit/test_agent_switch::test_floor_outlives_everything",
            "journeys/test_shipped_playbooks::test_decommission",
        ),
    ),
    "least privilege for each device": Principle(
        "A device reads and writes its own topics and its own folder of the store; people and timers "
        "have a role for each duty, rendered, linted and asked both ways.",
        (
            "contract/test_iot_feed_broker::test_one_device_can_not_touch_another",
            "unit/test_infra::test_the_table_asks_both_ways",
            "unit/test_infra_calls::test_the_promise_lists_exactly_what_the_code_calls",
        ),
    ),
    "credentials protected at rest": Principle(
        "Signing keys are encrypted files, or stay in a token or KMS; a device's keys have mode 0600 "
        "or stay in its token. No secret is in arguments, logs or job documents.",
        (
            "unit/test_keys::test_a_key_at_rest_is_encrypted_and_private",
            "contract/test_key_source_contract::test_every_role_by_every_source",
            "unit/test_ssh_link::test_nothing_secret_is_logged",
        ),
    ),
    "device identity from enrolment to retirement": Principle(
        "A key of its own for reports, another for TLS, each made on the device; who may join stands "
        "in a list; a copied device is noticed; a revoked one is shut out.",
        (
            "journeys/test_lifecycle::test_only_the_listed_may_join",
            "attacks/test_cloned_device::test_a_new_incarnation_waits_for_a_person",
            "contract/test_aws_identities::test_a_revoked_device_is_shut_out",
        ),
    ),
    "data protected end to end": Principle(
        "What a device obeys is signed by those who may decide it, and what a gate counts is signed by "
        "the device: nobody in between is asked.",
        (
            "attacks/test_thief_broker::test_it_can_not_change_a_report",
            "attacks/test_thief_bucket::test_it_can_not",
            "attacks/test_toctou::test_the_file_after_its_hash",
        ),
    ),
    "safety first in plants": Principle(
        "A machine's own interlock says when; cells never go down together; health decides, and the way "
        "back is planned and approved before anything moves.",
        (
            "journeys/test_waves::test_interlock_says_no_then_yes",
            "journeys/test_waves::test_a_plant_cell_never_goes_down_together",
            "journeys/test_waves::test_canary_fails_and_its_healthy_neighbour_goes_back",
        ),
    ),
    "zero trust": Principle(
        "Nothing is believed for where it comes from: not the store, the broker, a mirror, a stick, an "
        "operator's own bucket, or one keyholder alone.",
        (
            "attacks/test_thief_aws_administrator::test_it_can_not_bring_software",
            "attacks/test_director_replayed_to_operators::test_nobody_builds_on_it",
            "journeys/test_ssh_plant::test_a_mirror_is_not_believed",
        ),
    ),
    "private links, TLS everywhere": Principle(
        "TLS 1.2 or later with both ends checked, on 8883 or 443; AWS by private endpoints, which the "
        "device's policy asks for; SSH with a pin for every hop.",
        (
            "contract/test_iot_feed_broker::test_tls_is_what_the_device_asks_for",
            "unit/test_infra::test_devices_come_through_the_private_endpoint",
            "unit/test_ssh_hops::test_every_hop_is_pinned_by_itself",
        ),
    ),
    "segmented networks, down to one-way diodes": Principle(
        "Jump hosts, mirrors on devices that reach no store, and folders that are carried: through a "
        "diode or on a stick, in any order, torn or whole.",
        (
            "unit/test_ssh_hops::test_through_one_hop_and_through_two",
            "journeys/test_diode::test_files_that_arrive_in_any_order",
            "journeys/test_diode::test_nothing_comes_back",
        ),
    ),
    "edge computers kept up to date, and reached securely": Principle(
        "One plan over IoT Jobs, Systems Manager and SSH, under one gate; playbooks signed as releases "
        "are, for services, packages and hardening.",
        (
            "journeys/test_edge_plant::test_a_good_release_and_a_bad_one",
            "journeys/test_shipped_playbooks::test_harden_ssh_takes_back_what_sshd_refuses",
            "attacks/test_playbooks::test_refused_and_nothing_is_done",
        ),
    ),
}
