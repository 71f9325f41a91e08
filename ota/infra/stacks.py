"""A rendered stack -> its resources and policies, with names instead of references.

``Fn::GetAtt``, ``Ref`` and ``Fn::ImportValue`` are resolved to the names that AWS would give, as
far as they can be known beforehand: a key has its logical name for an id. What is left of a
policy is plain text that ``statements`` and ``evaluate`` can judge.

>>> policies(parse({"store": text}), values)[0].owner
'StorePolicy'
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import yaml

from ota.errors import Malformed
from ota.infra import statements
from ota.infra.statements import Statement
from ota.infra.values import Values

Kind = Literal["identity", "resource", "key", "trust", "iot", "endpoint"]
_ARNS: Final = {
    "AWS::KMS::Key": "arn:{partition}:kms:{region}:{account}:key/{id}",
    "AWS::SQS::Queue": "arn:{partition}:sqs:{region}:{account}:{QueueName}",
    "AWS::SNS::Topic": "arn:{partition}:sns:{region}:{account}:{TopicName}",
    "AWS::IAM::Role": "arn:{partition}:iam::{account}:role/{RoleName}",
    "AWS::S3::Bucket": "arn:{partition}:s3:::{BucketName}",
    "AWS::IoT::Policy": "arn:{partition}:iot:{region}:{account}:policy/{PolicyName}",
}


@dataclass(frozen=True)
class Policy:
    """One policy of a stack. ``owner`` is the name of the role, or the logical name."""

    stack: str
    owner: str
    kind: Kind
    document: Any
    statements: tuple[Statement, ...]

    @property
    def where(self) -> str:
        """Where a person finds it."""
        return f"{self.stack}: {self.owner}"


Stacks = Mapping[str, Mapping[str, Any]]


def parse(texts: Mapping[str, str]) -> Stacks:
    """Stack name -> parsed template; ``Malformed`` names stack and line."""
    found = {}
    for name, text in texts.items():
        try:
            found[name] = yaml.safe_load(text)
        except yaml.YAMLError as e:
            raise Malformed(f"stack {name}: {e}", subject=name) from e
        if not isinstance(found[name], dict) or not isinstance(found[name].get("Resources"), dict):
            raise Malformed(f"stack {name}: no Resources", subject=name)
    return found


def policies(stacks: Stacks, values: Values) -> list[Policy]:
    """Every policy of every stack, references resolved."""
    names = _Names(stacks, values)
    return [
        Policy(stack, owner, kind, plain, statements.read(plain, f"{stack}: {owner}"))
        for stack, template in stacks.items()
        for logical, resource in template["Resources"].items()
        for owner, kind, document in _of(logical, resource)
        for plain in [names.resolve(stack, document)]
    ]


def _of(logical: str, resource: Mapping[str, Any]) -> Iterator[tuple[str, Kind, Any]]:
    properties = resource.get("Properties", {})
    match resource["Type"]:
        case "AWS::IAM::Role":
            role = properties["RoleName"]
            yield role, "trust", properties["AssumeRolePolicyDocument"]
            for policy in properties.get("Policies", ()):
                yield role, "identity", policy["PolicyDocument"]
        case "AWS::IAM::RolePolicy":
            yield properties["RoleName"], "identity", properties["PolicyDocument"]
        case "AWS::KMS::Key":
            yield logical, "key", properties["KeyPolicy"]
        case "AWS::IoT::Policy":
            yield properties["PolicyName"], "iot", properties["PolicyDocument"]
        case "AWS::EC2::VPCEndpoint":
            if "PolicyDocument" in properties:
                yield logical, "endpoint", properties["PolicyDocument"]
        case _:
            if "PolicyDocument" in properties:
                yield logical, "resource", properties["PolicyDocument"]


class _Names:
    """Resolves references between and within stacks."""

    def __init__(self, stacks: Stacks, values: Values) -> None:
        self._stacks = stacks
        self._known = {
            "partition": values.partition,
            "region": values.region,
            "account": values.account,
        }
        self._exports = {
            output["Export"]["Name"]: (stack, output["Value"])
            for stack, template in stacks.items()
            for output in template.get("Outputs", {}).values()
            if "Export" in output
        }

    def resolve(self, stack: str, value: Any) -> Any:
        """The same value without references; ``Malformed`` for one that leads nowhere."""
        if isinstance(value, list):
            return [self.resolve(stack, item) for item in value]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            (name, argument), *_ = value.items()
            if name == "Fn::GetAtt":
                return self._arn(stack, argument[0])
            if name == "Ref":
                return self._ref(stack, argument)
            if name == "Fn::ImportValue":
                if argument not in self._exports:
                    raise Malformed(f"{stack}: nothing exports {argument}", subject=stack)
                return self.resolve(*self._exports[argument])
        return {key: self.resolve(stack, item) for key, item in value.items()}

    def _resource(self, stack: str, logical: str) -> Mapping[str, Any]:
        found = self._stacks[stack]["Resources"].get(logical)
        if found is None:
            raise Malformed(f"{stack}: there is no resource {logical}", subject=stack)
        resource: Mapping[str, Any] = found
        return resource

    def _arn(self, stack: str, logical: str) -> str:
        resource = self._resource(stack, logical)
        form = _ARNS.get(resource["Type"])
        if form is None:
            raise Malformed(f"{stack}: {logical}: its ARN is not known beforehand", subject=stack)
        properties = {k: v for k, v in resource["Properties"].items() if isinstance(v, str)}
        return form.format(**self._known, **properties, id=logical)

    def _ref(self, stack: str, logical: str) -> str:
        kind = self._resource(stack, logical)["Type"]
        if kind == "AWS::SNS::Topic":
            return self._arn(stack, logical)
        if kind == "AWS::EC2::VPCEndpoint":
            return f"vpce-{logical.lower()}"
        return logical
