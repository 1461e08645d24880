"""Makes a key pair and tokens with PyJWT.

Writes the public key to the file of its first argument; prints {"name": token, ...}: "good" and those to be refused.
"""
import base64
import json
import sys
import time

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

path, issuer, audience = sys.argv[1:]
own, foreign = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
pem = own.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)
with open(path, "wb") as file:
    file.write(pem)

now = int(time.time())
claims = {"sub": "service:billing", "iss": issuer, "aud": audience, "iat": now, "exp": now + 300}


def part(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def but(**changes):
    changed = {**claims, **changes}
    return {key: value for key, value in changed.items() if value is not None}


def signed(payload, key=own, algorithm="RS256", headers=None):
    return jwt.encode(payload, key, algorithm=algorithm, headers=headers)


good = signed(claims)
head, body, signature = good.split(".")
tokens = {
    "good": good,
    "expired": signed(but(iat=now - 900, exp=now - 600)),
    "of the future": signed(but(nbf=now + 600)),
    "without end": signed(but(exp=None)),
    "of another issuer": signed(but(iss="https://other.example")),
    "without issuer": signed(but(iss=None)),
    "for another audience": signed(but(aud="other")),
    "without audience": signed(but(aud=None)),
    "for ten years": signed(but(exp=now + 10 * 365 * 24 * 3600)),
    "of another key": signed(claims, key=foreign),
    "unsigned": f"{part({'alg': 'none', 'typ': 'JWT'})}.{body}.",
    "signed by the public key as a secret": None,
    "with another body": f"{head}.{part(but(sub='service:admin'))}.{signature}",
    "with critical headers": signed(claims, headers={"crit": ["exp"]}),
    "cut": good[:-10],
}
# PyJWT refuses to do this, attackers do not.
import hashlib
import hmac

forged = f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{body}"
mac = hmac.new(pem, forged.encode(), hashlib.sha256).digest()
tokens["signed by the public key as a secret"] = forged + "." + base64.urlsafe_b64encode(mac).rstrip(b"=").decode()
print(json.dumps(tokens))
