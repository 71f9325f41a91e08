"""Every reason for which a device or the operator's side refuses, with its cause and remedy.

One table, so that codes in signed reports, in the README and in tests are the same words.
A code is stable for ever; add rows, never rename.
"""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """Why it is refused, and what the people who see it do next."""

    cause: str
    remedy: str


_STORE = "ota repo verify; if all is well there, look for a cache or proxy before the device"
_AGAIN = "ota repo verify; a store restored from a backup: ota repo recover --bump 10"
_DIRECTOR = "suspect the director's key; if it was stolen, a new one and ota repo recover --online"
_IMAGE = "ask the release's signers; yank it if they did not mean it: ota release yank"
_PLAYBOOK = "ask the playbook's signers; yank it: ota playbook yank NAME@VERSION"
_REPORT = "suspect the device or its courier: ota fleet show DEVICE"
_COURIER = "look at who can write to the courier; the device looks by itself all the same"
_RECEIPT = "look before you trust it: ota fleet show DEVICE; without it: ota fleet retire DEVICE"

REFUSALS: dict[str, Row] = {
    # -- metadata, both repositories ------------------------------------------------------
    "signature": Row(
        "metadata is not signed by a threshold of its role's keys",
        "ota repo verify; if all is well there, compare the device's roots: ota repo roots",
    ),
    "metadata-rollback": Row("metadata is older than what was already seen here", _AGAIN),
    "equivocation": Row("one version number was signed with two different contents", _AGAIN),
    "metadata-mismatch": Row("metadata differs from what its parent lists (mix-and-match)", _STORE),
    "metadata-malformed": Row("metadata is not what the TUF specification describes", _STORE),
    "oversize": Row("a file is longer than its signed length or its limit", _STORE),
    "delegations": Row(
        "delegations are cyclic or deeper than allowed",
        "ask who signs targets: ota repo status",
    ),
    "shared-key": Row(
        "one key stands in both repositories",
        "name another key in repo-metadata/ of one of them; ota repo change",
    ),
    # -- director -------------------------------------------------------------------------
    "director-wrong-device": Row(
        "director metadata names another device",
        "compare device in agent.toml with ota fleet list; ota repo verify",
    ),
    "director-delegates": Row("director targets contain delegations", _DIRECTOR),
    "component-unknown": Row(
        "an assignment names a component this device lacks",
        "compare [components] in agent.toml with ota fleet show DEVICE; else " + _DIRECTOR,
    ),
    "component-repeated": Row("two assignments name one component", _DIRECTOR),
    "assignment-malformed": Row("an assignment lacks a signed field or has a wrong one", _DIRECTOR),
    # -- image against director -----------------------------------------------------------
    "not-listed": Row(
        "the image repository does not list the assigned path",
        "ota release list; if nobody yanked it, " + _DIRECTOR,
    ),
    "target-mismatch": Row("director and image repository disagree in length or hash", _DIRECTOR),
    "counter-mismatch": Row("director and image repository disagree in counter", _DIRECTOR),
    "component-mismatch": Row("path, component and delegating role do not agree", _IMAGE),
    "bin-keyholders": Row("a component's role hands releases on to other keyholders", _IMAGE),
    "hardware-mismatch": Row(
        "the release is not for this component's hardware id",
        "compare hardware_id in agent.toml with ota release show; else " + _DIRECTOR,
    ),
    "kind-mismatch": Row("the target is not of the kind that was ordered", _DIRECTOR),
    "release-malformed": Row("the signed description of the release is incomplete", _IMAGE),
    "below-floor": Row(
        "the release counter is below this component's floor",
        "roll out a release with a higher counter: ota release list",
    ),
    # -- playbooks ------------------------------------------------------------------------
    "playbook-malformed": Row("the playbook is not what its format says", _PLAYBOOK),
    "playbook-parameter": Row("a parameter is outside its signed pattern, or unknown", _DIRECTOR),
    "playbook-platform": Row("the playbook is not for this platform or road", _DIRECTOR),
    # -- image bytes ----------------------------------------------------------------------
    "image-mismatch": Row(
        "the image's bytes differ from the signed hashes",
        "ota repo verify; if all is well there, look at what lies between, and at the disk",
    ),
    "image-oversize": Row("the image is longer than its signed length", _STORE),
    "archive-hostile": Row("the archive would write outside its folder", _IMAGE),
    # -- hints ----------------------------------------------------------------------------
    "hint-malformed": Row("what the courier left is no hint", _COURIER),
    "hint-wrong-device": Row("a hint that names another device", _COURIER),
    "job-differs": Row(
        "a job under an order's id is not that order",
        "look at who may call iot:CreateJob; aws iot delete-job --force --job-id ORDER",
    ),
    "hint-playbook": Row(
        "a hint asks for a playbook, or parameters, that the director did not order here",
        _COURIER,
    ),
    # -- statements: reports, plans, approvals, enrolments --------------------------------
    "statement-malformed": Row(
        "a report, plan, approval or enrolment has the wrong form or type",
        "make a plan or approval anew; of a report " + _REPORT,
    ),
    "statement-signature": Row(
        "a report, plan, approval or enrolment is not signed by the key it needs",
        "make a plan or approval anew; of a report " + _REPORT,
    ),
    "report-replayed": Row("a report's counter does not rise: an old one again", _REPORT),
    "report-equivocation": Row("one report counter was signed with two contents", _REPORT),
    "report-wrong-device": Row("a report names another device than its key's", _REPORT),
    "report-unknown-device": Row(
        "a report from a device that is not registered",
        "ota fleet register, if it is yours; else look at who can write to the courier",
    ),
    "report-retired-device": Row(
        "a report from a device that was retired",
        "find out why it still runs: ota fleet show DEVICE",
    ),
    "report-incarnations": Row(
        "a device came back with new state too often; nobody has accepted it",
        "find the clone, if there is one; ota fleet show DEVICE, then ota fleet accept DEVICE",
    ),
    "receipt-wrong-device": Row("a receipt of another device than the retired one", _RECEIPT),
    "receipt-state": Row(
        "a receipt of a former state, or of a device of which a copy is about", _RECEIPT
    ),
    "receipt-order": Row("a receipt for an order that its device was never given", _RECEIPT),
    "receipt-outlived": Row("a device that reported again after its last word", _RECEIPT),
    "ssm-document": Row(
        "the hint document at Systems Manager is not what this program made",
        "suspect the account: aws ssm get-document; nothing was sent",
    ),
    "certificate-key": Row(
        "AWS IoT answered a request with a certificate for another key or name",
        "suspect the account: aws iot describe-certificate; nothing was attached",
    ),
    "workspace-mismatch": Row(
        "a plan or approval made for another workspace", "ota rollout plan SPEC, here"
    ),
    "approval-mismatch": Row(
        "the approval is for another plan or scope", "ota rollout approve PLAN, of this very file"
    ),
    "approval-expired": Row(
        "the approval or plan has expired", "ota rollout plan SPEC, then ota rollout approve PLAN"
    ),
    "outside-plan": Row(
        "an order that the approved plan does not contain", "ota rollout plan SPEC, and approve it"
    ),
    "journal-broken": Row("a journal's hash chain does not hold", "restore state/ from a backup"),
    # -- on the way -------------------------------------------------------------------------
    "host-key-changed": Row(
        "an SSH server shows another host key than those pinned for it",
        "ask who changed it, compare it at the machine itself, then pin it in the inventory",
    ),
}
