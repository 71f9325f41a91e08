"""Things and certificates at AWS IoT; implements ``ota.ports_aws.Things``.

Sources: AWS IoT API reference: CreateCertificateFromCsr makes a new certificate at each call and
takes no token, so an unrecorded one is looked for by its key; AttachThingPrincipal with
EXCLUSIVE_THING, so that the client id need not be the thing's name and a certificate never serves
two things; UpdateCertificate to REVOKED closes open connections.

>>> AwsThings(iot, account, policies=("ota-device",)).certify(pem).status
'INACTIVE'
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from ota.aws.errors import Call, asking, code_of, shown
from ota.errors import NotFound, NotPermitted
from ota.ports_aws import Certificate

ROLE: Final = "enrol"
_PAGE: Final = 250
_MOST: Final = 4_000
"""Certificates looked through for one that was made and not written down."""


class AwsThings:
    """``iot`` is a client of AWS IoT; ``policies`` are attached to every certificate."""

    def __init__(self, iot: Any, policies: Sequence[str]) -> None:
        self._iot = iot
        self._policies = tuple(policies)
        self._region = str(iot.meta.region_name)

    # -- things ---------------------------------------------------------------------------------
    def ensure(self, thing: str) -> None:
        """Make the thing unless it is there, whatever its attributes are."""
        from botocore.exceptions import ClientError  # noqa: PLC0415 - slow to import

        with self._call("CreateThing", f"thing/{thing}"):
            try:
                self._iot.create_thing(
                    thingName=thing, attributePayload={"attributes": {"ota": "enrolling"}}
                )
            except ClientError as e:
                if code_of(e) != "ResourceAlreadyExistsException":
                    raise

    def mark(self, thing: str, state: str) -> None:
        """Set the attribute ``ota``; other attributes stay."""
        with self._call("UpdateThing", f"thing/{thing}"):
            self._iot.update_thing(
                thingName=thing, attributePayload={"attributes": {"ota": state}, "merge": True}
            )

    def attached(self, thing: str) -> Sequence[str]:
        """ARNs of the thing's certificates; none when there is no such thing."""
        found: list[str] = []
        try:
            with self._call("ListThingPrincipals", f"thing/{thing}"):
                pages = self._iot.get_paginator("list_thing_principals")
                for page in pages.paginate(thingName=thing):
                    found += [p for p in page.get("principals", []) if ":cert/" in p]
        except NotFound:
            return ()
        return found

    # -- certificates ---------------------------------------------------------------------------
    def certify(self, pem: str) -> Certificate:
        """A new, inactive certificate."""
        with self._call("CreateCertificateFromCsr", "*"):
            answer = self._iot.create_certificate_from_csr(
                certificateSigningRequest=pem, setAsActive=False
            )
            return _certificate(answer, "INACTIVE")

    def made_since(self, since: datetime) -> Iterator[Certificate]:
        """Inactive certificates made at or after ``since``, newest first."""
        with self._call("ListCertificates", "*"):
            pages = self._iot.get_paginator("list_certificates").paginate(
                ascendingOrder=False, PaginationConfig={"PageSize": _PAGE, "MaxItems": _MOST}
            )
            rows = []
            for page in pages:
                fresh = [r for r in page["certificates"] if r["creationDate"] >= since]
                rows += [r for r in fresh if r["status"] == "INACTIVE"]
                if len(fresh) < len(page["certificates"]):
                    break
        for row in rows:
            found = self.certificate(row["certificateId"])
            if found is not None:
                yield found

    def certificate(self, certificate_id: str) -> Certificate | None:
        """One of them, or None when it is gone."""
        try:
            with self._call("DescribeCertificate", f"cert/{certificate_id}"):
                answer = self._iot.describe_certificate(certificateId=certificate_id)
                found = answer["certificateDescription"]
                return _certificate(found, found["status"])
        except NotFound:
            return None

    def attach(self, thing: str, certificate: Certificate) -> None:
        """Policies first: a certificate is never attached to a thing without them."""
        from botocore.exceptions import ClientError  # noqa: PLC0415 - slow to import

        for policy in self._policies:
            with self._call("AttachPolicy", f"policy/{policy}"):
                self._iot.attach_policy(policyName=policy, target=certificate.arn)
        with self._call("AttachThingPrincipal", f"cert/{certificate.id}"):
            try:
                self._iot.attach_thing_principal(
                    thingName=thing,
                    principal=certificate.arn,
                    thingPrincipalType="EXCLUSIVE_THING",
                )
            except ClientError as e:
                if code_of(e) != "ResourceAlreadyExistsException" and "exclusive" in str(e).lower():
                    raise NotPermitted(
                        f"{thing}: {shown(e)}",
                        code="certificate-shared",
                        subject=thing,
                        remedy=f"aws iot list-principal-things --principal {certificate.arn}",
                    ) from e
                raise

    def set_status(self, certificate_id: str, status: str) -> None:
        """ACTIVE, INACTIVE or REVOKED; a certificate that is gone can not be used either."""
        try:
            with self._call("UpdateCertificate", f"cert/{certificate_id}"):
                self._iot.update_certificate(certificateId=certificate_id, newStatus=status)
        except NotFound:
            if status == "ACTIVE":
                raise

    def detach(self, thing: str, arn: str) -> None:
        """Take the thing and our policies from a certificate; what is not there is fine."""
        name = arn.rpartition("/")[2]
        for policy in self._policies:
            self._fine_without(
                "DetachPolicy",
                f"cert/{name}",
                lambda p=policy: self._iot.detach_policy(policyName=p, target=arn),
            )
        self._fine_without(
            "DetachThingPrincipal",
            f"cert/{name}",
            lambda: self._iot.detach_thing_principal(thingName=thing, principal=arn),
        )

    def _fine_without(self, action: str, resource: str, call: Any) -> None:
        try:
            with self._call(action, resource):
                call()
        except NotFound:
            return

    def _call(self, action: str, resource: str) -> Any:
        return asking(Call(f"iot:{action}", resource, ROLE), self._region)


def _certificate(answer: Any, status: str) -> Certificate:
    return Certificate(
        str(answer["certificateId"]),
        str(answer["certificateArn"]),
        str(answer["certificatePem"]),
        status,
    )
