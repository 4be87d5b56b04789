"""Close the ports by which SeaweedFS's parts speak to each other to everybody but them.

S3 asks for a key, and the ports behind it (master, volume, filer) do not: whoever reaches them and speaks gRPC reads
and writes every object past S3. With the certificates made here both ends of such a connection must show one (mutual
TLS), and tokens signed with a key of the server's own open volumes over HTTP. The authority that signs is used once
and thrown away, so that no other certificate of it can ever be made.

Files belong to whoever makes them, mode 0600, and their names reach the server by its environment.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from deployments.private_files import write_private
from schemas.errors import EnvironmentFault

_AUTHORITY, _CERTIFICATE, _KEY, _TOKENS = "ca.crt", "node.crt", "node.key", "tokens.key"
NAMES = (_AUTHORITY, _CERTIFICATE, _KEY, _TOKENS)
"""Files of a folder of keys."""
_PARTS = ("MASTER", "VOLUME", "FILER", "S3", "CLIENT")
_YEARS = 20
"""Who loses the key makes new ones; nothing is gained by a date on which a plant stops."""


def make_keys(folder: Path) -> None:
    """Make a folder of keys, where it does not hold all of them.

    A server takes up new ones when it is started.

    Raises
    ------
    EnvironmentFault
        The folder cannot be written.
    """
    if all((folder / name).is_file() for name in NAMES):
        return
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Before the first is written: who is cut off leaves too few, never old and new ones that do not fit each other.
        for name in NAMES:
            (folder / name).unlink(missing_ok=True)
        for name, content in zip(NAMES, _new_keys(), strict=True):
            write_private(folder / name, content)
    except OSError as error:
        raise EnvironmentFault(f"{folder} cannot hold the keys of the S3 server ({error.strerror})") from error


def key_environment(folder: Path) -> dict[str, str]:
    """What a server, or a tool of SeaweedFS's, needs in its environment to use a folder of keys.

    Raises
    ------
    EnvironmentFault
        A key cannot be read.
    """
    try:
        token = (folder / _TOKENS).read_text(encoding="ascii").strip()
    except OSError as error:
        raise EnvironmentFault(f"{folder / _TOKENS} cannot be read ({error.strerror})") from error
    pairs = {f"WEED_GRPC_{part}_{what}": str(folder / name) for part in _PARTS for what, name in _PAIR}
    return pairs | {
        "WEED_GRPC_CA": str(folder / _AUTHORITY),
        "WEED_JWT_SIGNING_KEY": token,
        "WEED_JWT_SIGNING_READ_KEY": token,
        "WEED_JWT_FILER_SIGNING_KEY": token,
        "WEED_JWT_FILER_SIGNING_READ_KEY": token,
    }


_PAIR = (("CERT", _CERTIFICATE), ("KEY", _KEY))


def _new_keys() -> Iterable[bytes]:
    """Certificate of an authority, one that it signed with its key, and a key for tokens; in the order of `NAMES`."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    def name(common: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])

    def certificate(subject: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name("alp authority"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=365 * _YEARS))
        )

    authority, node = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = (
        certificate("alp authority", authority)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(authority, hashes.SHA256())
    )
    names: list[x509.GeneralName] = [
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    ]
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    signed = (
        certificate("alp node", node)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .sign(authority, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = node.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return root.public_bytes(pem), signed.public_bytes(pem), secret, secrets.token_urlsafe(32).encode("ascii")
