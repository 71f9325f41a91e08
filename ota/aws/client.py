"""Clients of AWS services, configured by boto3's own chain and by nothing else.

Credentials, profile, endpoints (``AWS_ENDPOINT_URL``, ``AWS_ENDPOINT_URL_<SERVICE>``), retries
(``AWS_RETRY_MODE``, ``AWS_MAX_ATTEMPTS``), certificate bundle and proxy are boto3's, from the
environment, the shared files, or a role. A region may be given, because a workspace lives in one;
without it the region is boto3's too. Two things are ours, because boto3 has no setting for them: how long a
connection may take, and how many there may be at once.

>>> client("sqs", region="eu-west-1").receive_message(QueueUrl=url)
"""

from __future__ import annotations

from typing import Any

from ota.aws.errors import shown, unanswered
from ota.errors import Misuse
from signing.aws import session

CONNECT = 10
"""Seconds to connect; reading may take boto3's 60, and a long poll 20 of them."""


def client(service: str, *, region: str = "", connections: int = 10) -> Any:
    """A client of one service, safe to share between threads.

    Raises ``Misuse`` where boto3 is not installed or no region is set, ``NotPermitted`` for a
    profile that does not exist.
    """
    try:
        from botocore.config import Config  # noqa: PLC0415 - an optional install, slow to import
        from botocore.exceptions import BotoCoreError  # noqa: PLC0415 - the same
    except ImportError as e:
        raise Misuse(
            f"{service}: AWS needs boto3",
            code="missing-library",
            subject=service,
            remedy="pip install 'ota-orchestrator[ops]'",
        ) from e
    config = Config(
        connect_timeout=CONNECT, max_pool_connections=connections, user_agent_extra="ota"
    )
    try:
        return session().client(service, region_name=region or None, config=config)
    except BotoCoreError as e:
        raise unanswered(e, f"a client of {service}") from e
    except ValueError as e:
        raise Misuse(
            f"a client of {service}: {shown(e)}",
            code="aws-endpoint",
            subject=service,
            remedy="look at AWS_ENDPOINT_URL and endpoint_url in the AWS configuration",
        ) from e
