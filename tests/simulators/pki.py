"""A throw-away certificate authority: servers, devices, and a list of the revoked.

>>> authority = Authority(tmp_path / "pki")
>>> broker = authority.issue("127.0.0.1", server=True)
>>> device = authority.issue("press-07")
>>> authority.revoke(device)
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Issued:
    """A certificate and, where the authority made it, its key: PEM files, the key of mode 0600."""

    name: str
    certificate: Path
    key: Path
    serial: int


class Authority:
    """See the module. ``ca`` is its own certificate, ``crl`` the list."""

    def __init__(self, folder: Path, name: str = "a throw-away authority") -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._revoked: list[int] = []
        self.ca = folder / "ca.pem"
        self.crl = folder / "crl.pem"
        now = datetime.now(UTC)
        made = self._builder(self._name, self._key.public_key(), now - DAY, now + 30 * DAY)
        made = made.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.ca.write_bytes(_pem(made.sign(self._key, hashes.SHA256())))
        self._write_crl()

    def issue(
        self,
        name: str,
        *,
        server: bool = False,
        valid: tuple[timedelta, timedelta] = (-DAY, DAY),
        public: CertificateIssuerPublicKeyTypes | None = None,
    ) -> Issued:
        """A certificate of this common name; ``valid`` from and to, seen from now."""
        now = datetime.now(UTC)
        own = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = self._builder(subject, public or own.public_key(), now + valid[0], now + valid[1])
        usage = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        made = made.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if server:
            names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
            made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
        signed = made.sign(self._key, hashes.SHA256())
        stem = f"{name}-{signed.serial_number:x}"
        found = Issued(
            name,
            self.folder / f"{stem}.pem",
            self.folder / f"{stem}.key",
            signed.serial_number,
        )
        found.certificate.write_bytes(_pem(signed))
        if public is None:
            found.key.touch(mode=0o600)
            found.key.write_bytes(
                own.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                )
            )
        return found

    def revoke(self, issued: Issued) -> None:
        """Put it on the list; who reads the list has to read it again."""
        self._revoked.append(issued.serial)
        self._write_crl()

    def _builder(
        self,
        subject: x509.Name,
        public: CertificateIssuerPublicKeyTypes,
        begin: datetime,
        end: datetime,
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(end)
        )

    def _write_crl(self) -> None:
        now = datetime.now(UTC)
        made = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._name)
            .last_update(now - DAY)
            .next_update(now + 30 * DAY)
        )
        for serial in self._revoked:
            row = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now - DAY)
            made = made.add_revoked_certificate(row.build())
        signed = made.sign(self._key, hashes.SHA256())
        self.crl.write_bytes(signed.public_bytes(serialization.Encoding.PEM))


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
