"""Every threat, and every thief, each with what comes of it and the tests that show it.

Data for two readers: ``test_threats.py``, which asserts that each named test exists and that no
file of ``tests/attacks/`` is left out, and the README, which lists them.

>>> THREATS["rollback of every role"]
Threat(answer='`metadata-rollback`', files=('test_rollback',))
"""

from __future__ import annotations

from typing import NamedTuple


class Threat(NamedTuple):
    """``answer``: what the device, or the operators' side, says; ``files`` of tests/attacks/."""

    answer: str
    files: tuple[str, ...]


def _said(*codes: str) -> str:
    return ", ".join(f"`{code}`" for code in codes)


THREATS: dict[str, Threat] = {
    "arbitrary software": Threat(
        _said("image-mismatch", "signature"), ("test_arbitrary_software",)
    ),
    "endless data": Threat(_said("oversize", "image-oversize"), ("test_endless_data",)),
    "slow drip": Threat("an outage, `slow`", ("test_slow_drip",)),
    "freeze": Threat(
        "`stale` once it expires; `image-stale` while an order waits", ("test_freeze",)
    ),
    "fast-forward": Threat(
        "`metadata-rollback`, until the root replaces the key", ("test_fast_forward",)
    ),
    "rollback of every role": Threat(_said("metadata-rollback"), ("test_rollback",)),
    "mix-and-match": Threat(_said("metadata-mismatch"), ("test_mix_and_match",)),
    "equivocation": Threat(_said("equivocation"), ("test_equivocation",)),
    "key ids forged or repeated": Threat(
        _said("signature", "metadata-malformed"), ("test_key_ids",)
    ),
    "threshold short by duplicate signatures": Threat(
        _said("signature", "metadata-malformed"), ("test_threshold",)
    ),
    "expired at each level": Threat("`stale`, which accuses nobody", ("test_expired",)),
    "wrong hardware": Threat(_said("hardware-mismatch"), ("test_wrong_hardware",)),
    "wrong device": Threat(
        _said("director-wrong-device", "hint-wrong-device"), ("test_wrong_device",)
    ),
    "another device's timestamp or snapshot": Threat(
        _said("director-wrong-device"), ("test_another_devices_metadata",)
    ),
    "wrong component": Threat(
        _said("assignment-malformed", "component-mismatch"), ("test_wrong_component",)
    ),
    "a delegated role naming another component": Threat(
        _said("component-mismatch", "not-listed", "bin-keyholders"),
        ("test_delegated_component",),
    ),
    "a release in top-level targets, by mistake or not": Threat(
        "`component-mismatch`, by devices, `ota repo verify` and publishing",
        ("test_listed_above",),
    ),
    "repeated or unknown component": Threat(
        _said("component-repeated", "component-unknown"), ("test_components",)
    ),
    "director with delegations": Threat(
        _said("director-delegates"), ("test_director_delegations",)
    ),
    "image metadata served as director": Threat(_said("signature"), ("test_image_as_director",)),
    "one key in both repositories": Threat(_said("shared-key"), ("test_shared_key",)),
    "director and image disagreeing in length, any hash, counter or path": Threat(
        _said("target-mismatch", "counter-mismatch", "not-listed"), ("test_disagreement",)
    ),
    "counter below floor": Threat(_said("below-floor"), ("test_below_floor",)),
    "floor laundering through an empty assignment": Threat(
        _said("below-floor"), ("test_floor_laundering",)
    ),
    "playbook as release": Threat(_said("kind-mismatch"), ("test_playbook_as_release",)),
    "oversize of every file": Threat(_said("oversize", "image-oversize"), ("test_oversize",)),
    "terminating and cyclic delegations": Threat(
        _said("not-listed", "delegations"), ("test_delegations",)
    ),
    "a playbook changed, aimed elsewhere or replayed": Threat(
        _said("image-mismatch", "playbook-parameter", "playbook-platform", "hint-playbook"),
        ("test_playbooks",),
    ),
    "hash bins that lie": Threat(
        _said("bin-keyholders", "metadata-mismatch", "metadata-rollback", "release-malformed"),
        ("test_lying_bins",),
    ),
    "path tricks in names and device ids": Threat(
        _said("assignment-malformed", "malformed"), ("test_path_tricks",)
    ),
    "hints withheld": Threat("the next poll finds the order", ("test_hints_withheld",)),
    "a hint that is none": Threat(_said("hint-malformed"), ("test_hostile_hints",)),
    "a live assignment after abort": Threat(
        "`metadata-rollback`; `stale` after at most three days", ("test_live_after_abort",)
    ),
    "clock poisoning, then recovery": Threat(
        "`stale` for as long as it lasts; a root dated ahead is not signed, and moves no clock ahead",
        ("test_clock_poisoning",),
    ),
    "replayed report": Threat(
        _said("report-replayed", "report-equivocation"), ("test_replayed_report",)
    ),
    "forged report": Threat(
        _said("statement-signature", "report-wrong-device", "report-unknown-device"),
        ("test_forged_report",),
    ),
    "a last word forged, replayed, or of a device that lives": Threat(
        _said(
            "statement-signature",
            "receipt-wrong-device",
            "receipt-state",
            "receipt-order",
            "receipt-outlived",
        ),
        ("test_forged_receipt",),
    ),
    "report with the right key and the wrong order": Threat(
        "listed as mismatched; no gate moves", ("test_wrong_order_report",)
    ),
    "a copied or restored device": Threat(
        "`restored`, until a person accepts it", ("test_cloned_device",)
    ),
    "DSSE type confusion": Threat(
        _said("statement-malformed", "statement-signature"), ("test_dsse_types",)
    ),
    "approval replayed, for another plan or in another workspace": Threat(
        _said("approval-mismatch", "workspace-mismatch"), ("test_approval_replayed",)
    ),
    "plan changed after approval": Threat(_said("statement-signature"), ("test_plan_changed",)),
    "a waiting change edited on its way": Threat(
        "malformed, before anybody signs; what keyholders sign, all of them read first",
        ("test_change_on_its_way",),
    ),
    "approving for oneself": Threat("exit 4 or 6: not enough approvals", ("test_self_approval",)),
    "an approval past its day": Threat(_said("approval-expired"), ("test_expired_approval",)),
    "an order outside of its plan": Threat(_said("outside-plan"), ("test_outside_the_plan",)),
    "a journal rewritten": Threat(_said("journal-broken"), ("test_journal_rewritten",)),
    "TOCTOU between check and install": Threat("`image-mismatch`; `withdrawn`", ("test_toctou",)),
    "a killed publisher that signs again": Threat(
        "the same bytes again; `equivocation` where they differ", ("test_killed_publisher",)
    ),
    "operators shown an older state": Threat(
        _said("metadata-rollback"),
        ("test_operator_rollback", "test_director_replayed_to_operators"),
    ),
}


class Thief(NamedTuple):
    """Who has what; ``can`` and ``can_not`` in words; ``files`` that assert both halves."""

    can: str
    can_not: str
    files: tuple[str, ...]


THIEVES: dict[str, Thief] = {
    "a broker or courier (IoT Jobs, SSM, SSH, spool, USB stick)": Thief(
        "read, lose, delay or repeat hints and reports; wake a device",
        "change, aim or forge anything; make a wave go on",
        ("test_thief_broker",),
    ),
    "the bucket, or whatever store": Thief(
        "read images and metadata, which are signed and not encrypted; withhold them; show what is "
        "old and unexpired: a withdrawn assignment until the device's old timestamp ends (3 days "
        "as shipped)",
        "make a device install other bytes, go back in versions, name keys, or take another "
        "device's orders",
        ("test_thief_bucket",),
    ),
    "the AWS account, as its administrator": Thief(
        "both of the above, together: stop or delay updates, hide which devices did well. Whoever "
        "may also *use* the director's KMS key has that key",
        "bring software, turn devices back, exchange them, or speak for one",
        ("test_thief_aws_administrator",),
    ),
    "the director's online key": Thief(
        "choose, for any device, among *listed* releases at or above its floor for that component "
        "and hardware; lift the denial of such a release; run *listed* playbooks with values that "
        "their signed patterns allow; withhold, delay or repeat updates, until the director root "
        "replaces the key",
        "bring other bytes, other hardware's releases, other procedures or values, lower a floor, "
        "move a clock, approve, or make a rollout succeed",
        ("test_thief_director_key", "test_playbooks"),
    ),
    "the image repository's online key": Thief(
        "withhold new releases, until the root replaces the key",
        "list anything, or take back what a device has seen listed",
        ("test_thief_image_online_key",),
    ),
    "one of the targets keyholders": Thief(
        "nothing, as shipped: two of three must sign; nor can it be missed",
        "list, describe anew, or lower the threshold",
        ("test_thief_targets_keyholder",),
    ),
    "two of the targets keyholders": Thief(
        "list any bytes",
        "aim them: no device installs what its director does not assign. With the director's key "
        "as well they can do what the owners can",
        ("test_thief_targets_keyholder",),
    ),
    "one of the playbooks keyholders": Thief(
        "nothing, where two must sign",
        "list a procedure",
        ("test_thief_playbooks_keyholder",),
    ),
    "as many playbooks keyholders as must sign": Thief(
        "list any procedure, or take one away: its rollouts hold. With the director's key as well, "
        "run it",
        "start it anywhere: a device runs what its director orders; exchange what was ordered or "
        "approved; list a release; widen their right or hand it on; stop others' releases; run "
        "anything on a device whose owner said `playbooks = false`",
        ("test_thief_playbooks_keyholder", "test_playbooks"),
    ),
    "the author's key": Thief(
        "propose", "approve, order", ("test_thief_author_and_approver", "test_self_approval")
    ),
    "the author's and an approver's key": Thief(
        "have a plan that the next operator who starts it would run",
        "order without the director's key, run what is not listed",
        ("test_thief_author_and_approver",),
    ),
    "the registry's database": Thief(
        "lie to operators and gates: labels, keys of devices, history of reports and rollouts (the "
        "hash chain shows edits, not a rewriting of all of it)",
        "make a device install anything",
        ("test_thief_registry", "test_journal_rewritten"),
    ),
    "one device, with its key": Thief(
        "lie about that device; read its images",
        "lie about others, or about what was ordered",
        ("test_forged_report", "test_wrong_order_report"),
    ),
    "the operator's machine, unlocked": Thief(
        "what the director's online key can, and what the registry can",
        "sign releases or roots",
        ("test_thief_director_key", "test_thief_registry"),
    ),
}
