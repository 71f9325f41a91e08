"""The Software Package Catalog of AWS IoT: which version a job's devices will have. For the eye.

With ``packages = true`` each release that is sent out gets a package version, published, and the
jobs that send it name it as their destination; what AWS shows of it is decoration, since devices say
what they run in signed reports. Its alphabets are narrower than ours; ``iot_documents`` maps them.
A job can name one version of a package, so an order that mixes releases (a way back, several
hardware ids) names none.

Made once for each release and process; every call may be repeated.
"""

from __future__ import annotations

from typing import Final

from ota.aws.api import Api, Said
from ota.couriers.iot_documents import package_version
from ota.couriers.iot_targets import Targets
from ota.ports import Order
from ota.ports_aws import package_name

_THERE: Final = "ConflictException"


class Packages:
    """Makes sure that a release is in the catalogue."""

    def __init__(self, api: Api, targets: Targets) -> None:
        self._api = api
        self._targets = targets
        self._made: dict[str, str] = {}

    def destination(self, order: Order) -> list[str]:
        """ARNs of the package versions that the order's job leads to: one, or none."""
        if len(order.releases) != 1:
            return []
        (release,) = order.releases
        if release not in self._made:
            self._made[release] = self._make(release)
        return [self._made[release]]

    def _make(self, release: str) -> str:
        component, _, version = release.partition("@")
        package, name = package_name(component), package_version(version)
        arn = f"{self._targets.base}:package/{package}"
        self._once("CreatePackage", arn, packageName=package)
        words = {"packageName": package, "versionName": name}
        arn = f"{arn}/version/{name}"
        self._once("CreatePackageVersion", arn, **words, description=release)
        self._once("UpdatePackageVersion", arn, **words, action="PUBLISH")
        return arn

    def _once(self, operation: str, arn: str, **words: str) -> None:
        """Make it so, unless it is so already."""
        try:
            self._api.call(operation, arn, expects={_THERE}, **words)
        except Said:
            return
