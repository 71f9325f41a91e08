"""What AWS and botocore say, in our words: each its own code, subject and next command."""

from __future__ import annotations

import json
from typing import Any

import boto3
import pytest
from botocore import exceptions as boto
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError
from simulators.ministack import Account, free_port

from ota.aws.client import client
from ota.aws.errors import Call, code_of, is_throttle, translated
from ota.errors import Malformed, Misuse, NotFound, NotPermitted, OtaError, Outage

CALL = Call("iot:CreateJob", "arn:aws:iot:eu-west-1:1:job/x", "rollout")


def said(code: str, message: str = "as it is", status: int = 400) -> ClientError:
    answer = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(answer, "CreateJob")


def after(error: Exception) -> OtaError:
    """What a caller sees of it."""
    with pytest.raises(OtaError) as caught, translated(CALL, "eu-west-1"):
        raise error
    return caught.value


ANSWERS = [
    ("AccessDeniedException", "aws-denied", NotPermitted, "the policy of the rollout role"),
    ("AccessDenied", "aws-denied", NotPermitted, "allow iot:CreateJob on arn:aws:iot"),
    ("ExpiredTokenException", "aws-expired", NotPermitted, "renew"),
    ("ExpiredToken", "aws-expired", NotPermitted, "renew"),
    ("UnrecognizedClientException", "aws-credentials", NotPermitted, "aws configure list"),
    ("SignatureDoesNotMatch", "aws-credentials", NotPermitted, "get-caller-identity"),
    ("RequestTimeTooSkewed", "aws-clock", NotPermitted, "clock"),
    ("AuthorizationHeaderMalformed", "aws-region", Misuse, "region"),
    ("ResourceNotFoundException", "aws-not-found", NotFound, "compare account and region"),
    ("AWS.SimpleQueueService.NonExistentQueue", "aws-not-found", NotFound, "region"),
    ("ThrottlingException", "aws-throttled", Outage, "quota"),
    ("TooManyRequestsException", "aws-throttled", Outage, "rates"),
    ("LimitExceededException", "aws-limit", Outage, "service-quotas"),
    ("InvalidRequestException", "aws-invalid", Malformed, ""),
    ("InternalFailureException", "aws", Outage, "try again"),
    ("SomethingNew", "aws", Outage, "try again"),
]


@pytest.mark.parametrize(("code", "ours", "kind", "remedy"), ANSWERS, ids=[a[0] for a in ANSWERS])
def test_every_answer_has_its_own_code(
    code: str, ours: str, kind: type[OtaError], remedy: str
) -> None:
    """The message names action and resource; the remedy is what to do next."""
    error = after(said(code))
    assert (type(error), error.code, error.subject) == (kind, ours, CALL.resource) or (
        ours in {"aws-expired", "aws-credentials"} and error.code == ours
    )
    assert "iot:CreateJob on arn:aws:iot:eu-west-1:1:job/x" in str(error)
    assert remedy in error.remedy
    assert isinstance(error.__cause__, ClientError)


def test_a_denial_names_who_and_whether_a_policy_forbids_it() -> None:
    """The caller as AWS saw it; an explicit deny is another thing than a missing allow."""
    who = "arn:aws:sts::1:assumed-role/ota-rollout/me"
    error = after(said("AccessDeniedException", f"User: {who} is not authorized to perform: it"))
    assert str(error) == f"{who} is not allowed {CALL}"
    error = after(said("AccessDenied", "no, with an explicit deny in a service control policy"))
    assert str(error).endswith("a policy denies it explicitly")


def test_a_signature_that_has_expired_is_the_clock() -> None:
    """AWS has no code of its own for it in some services."""
    error = after(said("InvalidSignatureException", "Signature expired: 1 is now earlier than 2"))
    assert error.code == "aws-clock"


def test_foreign_text_is_bounded_and_plain() -> None:
    """What AWS, or what stands in for it, says does not reach a terminal as it is."""
    error = after(said("Odd\x1b[31m", "\x1b[2J" + "x" * 5000))
    assert "\x1b" not in str(error)
    assert len(str(error)) < 400


SILENT = [
    (boto.NoRegionError(), "aws-region"),
    (boto.InvalidRegionError(region_name="a/b"), "aws-region"),
    (boto.EndpointConnectionError(endpoint_url="https://iot.eu-wst-1"), "aws-unreachable"),
    (boto.ReadTimeoutError(endpoint_url="https://iot"), "aws-unreachable"),
    (boto.SSLError(endpoint_url="https://iot", error="bad"), "aws-unreachable"),
    (boto.IncompleteReadError(actual_bytes=1, expected_bytes=2), "aws-unreachable"),
    (boto.NoCredentialsError(), "aws-credentials"),
    (boto.PartialCredentialsError(provider="env", cred_var="key"), "aws-credentials"),
    (boto.CredentialRetrievalError(provider="role", error_msg="no"), "aws-credentials"),
    (boto.ProfileNotFound(profile="plant"), "aws-credentials"),
    (boto.UnauthorizedSSOTokenError(), "aws-expired"),
    (boto.ParamValidationError(report="targets: too short"), "aws-invalid"),
    (RuntimeError("Credentials were refreshed, but are still expired."), "aws-expired"),
    (ResponseParserError("<html>Welcome to the hotel</html>"), "aws-unreachable"),
    (boto.DataNotFoundError(data_path="iot"), "aws"),
]


@pytest.mark.parametrize(("error", "ours"), SILENT, ids=[type(e).__name__ for e, _ in SILENT])
def test_what_botocore_says_itself(error: Exception, ours: str) -> None:
    """Nothing was sent, or nothing came back."""
    assert after(error).code == ours


def test_what_is_not_of_aws_passes() -> None:
    """A mistake of ours is not an outage."""
    with pytest.raises(RuntimeError, match="ours"), translated(CALL):
        raise RuntimeError("ours")


def test_codes_are_found_wherever_they_stand() -> None:
    """In the body, with a namespace, or only in the status."""
    assert code_of(said("com.amazonaws.iot#Throttling:http://x")) == "Throttling"
    assert code_of(said("", status=403)) == "403"
    assert is_throttle(said("SlowDown"))
    assert not is_throttle(said("AccessDenied"))


# -- real clients --------------------------------------------------------------------------------
def test_boto3_s_own_settings_are_honoured(
    aws: Account, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """Profile, region, endpoint of a service and retries, from environment and shared file."""
    aws.use(monkeypatch)
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SQS"):
        monkeypatch.delenv(name)
    (tmp_path / "config").write_text(
        "[profile plant]\nregion = eu-central-1\nretry_mode = adaptive\nmax_attempts = 7\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "plant")
    iot = client("iot")
    assert iot.meta.region_name == "eu-central-1"
    assert iot.meta.endpoint_url == aws.server.url
    assert iot.meta.config.retries == {"mode": "adaptive", "total_max_attempts": 7}
    assert client("sqs", region="eu-west-2").meta.endpoint_url == (
        "https://sqs.eu-west-2.amazonaws.com"
    )


@pytest.mark.parametrize(
    ("variables", "code"),
    [
        ({"AWS_DEFAULT_REGION": "", "AWS_REGION": ""}, "aws-region"),
        ({"AWS_PROFILE": "nobody"}, "aws-credentials"),
        ({"AWS_ENDPOINT_URL_SQS": "not a url"}, "aws-endpoint"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "aws-credentials"),
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "aws-credentials"),
        ({"AWS_ENDPOINT_URL_SQS": "CLOSED"}, "aws-unreachable"),
    ],
    ids=["region", "profile", "endpoint", "nobody", "stranger", "closed"],
)
def test_a_machine_that_is_set_wrongly(
    aws: Account, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], code: str
) -> None:
    """Each is named, whether the client or its first call finds it."""
    aws.use(monkeypatch, aws.user({"Effect": "Allow", "Action": "sqs:*", "Resource": "*"}))
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    for name, value in variables.items():
        real = f"http://127.0.0.1:{free_port()}" if value == "CLOSED" else value
        monkeypatch.setenv(name, real) if real else monkeypatch.delenv(name)
    with pytest.raises(OtaError) as caught, translated(CALL):
        client("sqs").list_queues()
    assert caught.value.code == code
    assert caught.value.remedy


def test_a_real_denial(aws: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the emulator words it, which is as AWS does."""
    aws.use(
        monkeypatch, aws.user({"Effect": "Allow", "Action": "iot:DescribeJob", "Resource": "*"})
    )
    arn = f"arn:aws:iot:{aws.region}:{aws.id}:job/x"
    with pytest.raises(NotPermitted) as caught, translated(Call("iot:CreateJob", arn, "rollout")):
        client("iot").create_job(jobId="x", targets=[arn], document=json.dumps({}))
    assert caught.value.code == "aws-denied"
    assert ":user/user-" in str(caught.value)
    assert caught.value.remedy == f"allow iot:CreateJob on {arn} in the policy of the rollout role"
    assert boto3.DEFAULT_SESSION is None, "nothing of ours leaks into the process"
