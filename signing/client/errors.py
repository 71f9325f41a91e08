"""The one seam between python-tuf's errors and ours.

Refusals are evidence, ``Stale`` is expiry; whatever hostile bytes make a parser raise is
``metadata-malformed``. python-tuf's ``EqualVersionNumberError`` passes: the caller must compare.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tuf.api import exceptions as tuf
from tuf.api.metadata import Metadata

from signing.errors import OtaError, Refusal, Stale

BROKEN = (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError)
"""What hostile bytes make a parser raise, beside python-tuf's own errors."""


@contextlib.contextmanager
def translated(role: str) -> Iterator[None]:
    """Turn python-tuf's errors into ours: the one seam."""
    try:
        yield
    except (OtaError, tuf.EqualVersionNumberError):
        raise
    except tuf.UnsignedMetadataError as e:
        raise Refusal("signature", f"{role}: {e}", subject=role) from e
    except tuf.BadVersionNumberError as e:
        raise Refusal("metadata-rollback", f"{role}: {e}", subject=role) from e
    except tuf.LengthOrHashMismatchError as e:
        raise Refusal("metadata-mismatch", f"{role}: {e}", subject=role) from e
    except tuf.ExpiredMetadataError as e:
        found = str(e).removeprefix("Final ").partition(".json")[0]  # a root is judged last
        raise Stale(f"{found} is expired", subject=found) from e
    except tuf.RepositoryError as e:
        code = "metadata-mismatch" if "missing info" in str(e) else "metadata-malformed"
        raise Refusal(code, f"{role}: {e}", subject=role) from e
    except BROKEN as e:
        raise Refusal("metadata-malformed", f"{role}: {e!r:.200}", subject=role) from e


def signed_bytes(data: bytes) -> bytes:
    """The canonical bytes that the signatures of ``data`` cover."""
    with translated("metadata"):
        return Metadata.from_bytes(data).signed_bytes
