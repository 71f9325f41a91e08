"""Sessions of boto3, for keys in KMS and for everything that operators do at AWS.

>>> session().client("kms", region_name="eu-west-1")
"""

from __future__ import annotations

import functools
from typing import Any


def session() -> Any:
    """One that reads the environment anew, and the library's own files only once.

    Raises ``ImportError`` where boto3 is not installed.
    """
    import boto3  # noqa: PLC0415 - slow to import, and an optional install
    from botocore.session import Session  # noqa: PLC0415 - the same

    made = Session()
    made.register_component("data_loader", _loader())
    return boto3.session.Session(botocore_session=made)


@functools.cache
def _loader() -> Any:
    from botocore.loaders import create_loader  # noqa: PLC0415 - an optional install

    return create_loader()
