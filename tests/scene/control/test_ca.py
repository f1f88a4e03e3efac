"""Who gets a certificate of whom, and what is written down when somebody gets none."""
import datetime
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from lib import certs
from lib.client import wait_until
from lib.identity import Issuer, Refused, create_certificate, names_of, request_of

pytestmark = pytest.mark.quick
WEB = "spiffe://cluster.local/ns/shop/sa/web"
VAGUE = "request authenticate failure"


def refusal(channel, **options):
    with pytest.raises(Refused) as refused:
        create_certificate(channel, request_of()[0], **options)
    return refused.value.code, refused.value.details


def test_a_good_token_gets_its_own_identity(lateend, issuer):
    control = lateend(JWT_RULE=issuer.rule())
    csr, key = request_of("spiffe://cluster.local/ns/kube-system/sa/admin")  # whatever it asks for
    for channel in (control.channel(), control.plain_channel()):
        chain = create_certificate(channel, csr, token=issuer.token(), seconds=3600)
        leaf = x509.load_pem_x509_certificate(chain[0].encode())
        assert names_of(chain[0]) == [WEB]
        assert leaf.public_key() == key.public_key()
        assert len(chain) == 2 and chain[1] == control.root()
        left = leaf.not_valid_after_utc - datetime.datetime.now(datetime.timezone.utc)
        assert datetime.timedelta(seconds=3500) < left <= datetime.timedelta(seconds=3600)
        leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(chain[1].encode()))
    assert control.lines("info", "ca: a certificate for " + WEB)
    assert control.metric("citadel_server_success_cert_issuance_count") == 2


FORGED = {
    "no token": lambda issuer: None,
    "garbage": lambda issuer: "let.me.in",
    "wrong key": lambda issuer: Issuer().token(),
    "wrong key under the name of the right one": lambda issuer: Issuer(kid=issuer.kid).token(),
    "wrong audience": lambda issuer: issuer.token(aud=["vault"]),
    "no audience": lambda issuer: issuer.token(aud=None),
    "expired": lambda issuer: issuer.token(exp=int(time.time()) - 61),
    "without end": lambda issuer: issuer.token(exp=None),
    "not yet": lambda issuer: issuer.token(nbf=int(time.time()) + 600),
    "another issuer": lambda issuer: issuer.token(iss="https://elsewhere"),
    "alg none": lambda issuer: issuer.unsigned(),
    "alg none, with a signature": lambda issuer: issuer.unsigned() + issuer.token().split(".")[2],
    "HMAC with the public key": lambda issuer: issuer.signed_with_public_key(),
    "claims changed": lambda issuer: ".".join([issuer.token().split(".")[0], issuer.token(account="admin").split(".")[1], issuer.token().split(".")[2]]),
    "no service account": lambda issuer: issuer.token(sub="system:node:one"),
    "a name that is no name": lambda issuer: issuer.token(account="web/../admin"),
    "a critical extension": lambda issuer: issuer.token(header={"crit": ["x"], "x": 1}),
}


def test_without_a_good_token_there_is_no_certificate(lateend, issuer):
    control = lateend(JWT_RULE=issuer.rule())
    secure, plain = control.channel(), control.plain_channel()
    for number, (name, make) in enumerate(FORGED.items(), 1):
        for channel in (secure, plain):
            assert refusal(channel, token=make(issuer)) == ("UNAUTHENTICATED", VAGUE), name
        assert control.metric("citadel_server_authentication_failure_count") == 2 * number
        assert len(control.lines("warn", "ca: no certificate for a stranger at 127.0.0.1:")) == 2 * number, name
    reasons = "\n".join(control.lines("ca: no certificate"))
    for reason in ("no bearer token", "Jwt verification fails", "Audiences in Jwt are not allowed", "Jwt is expired", "Jwt not yet valid",
                   "Jwt issuer is not configured", "Jwt header [alg] is not supported", "subject is no service account"):
        assert reason in reasons, reason
    assert control.metric("citadel_server_success_cert_issuance_count") == 0
    assert create_certificate(secure, request_of()[0], token=issuer.token())  # and others are served as before


def test_one_account_gets_nothing_of_another(lateend, issuer):
    """Asked for openly it is refused; asked for in the request it is not even read."""
    control = lateend(JWT_RULE=issuer.rule())
    channel, admin = control.channel(), "spiffe://cluster.local/ns/kube-system/sa/admin"
    csr, key = request_of(admin)
    assert names_of(create_certificate(channel, csr, token=issuer.token())[0]) == [WEB]
    with pytest.raises(Refused) as refused:
        create_certificate(channel, csr, token=issuer.token(), impersonate=admin)
    assert (refused.value.code, refused.value.details) == ("UNAUTHENTICATED", "request impersonation authentication failure")
    assert control.lines("warn", f"ca: no certificate for {WEB} at 127.0.0.1:", "it asked for another's")
    # with its certificate it can go on, as itself; and not with one that another root made
    chain = create_certificate(channel, csr, token=issuer.token())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
    assert names_of(create_certificate(control.channel(pem, chain[0]), csr)[0]) == [WEB]
    foreign = certs.Root().leaf(WEB)
    with pytest.raises(Refused) as refused:
        create_certificate(control.channel(foreign[1], foreign[0]), csr)
    assert refused.value.code == "UNAVAILABLE"  # there is no connection
    plain = control.plain_channel()
    with pytest.raises(Refused) as refused:
        create_certificate(plain, csr, metadata=[("x-forwarded-client-cert", f"URI={WEB}")])
    assert refused.value.code == "UNAUTHENTICATED"


def test_requests_that_cannot_be_signed(lateend, issuer):
    control = lateend(JWT_RULE=issuer.rule(), MAX_WORKLOAD_CERT_TTL="1h", DEFAULT_WORKLOAD_CERT_TTL="20s")
    channel, token = control.channel(), issuer.token()
    csr = request_of()[0]
    broken = csr[:200] + ("A" if csr[200] != "A" else "B") + csr[201:]
    for bad in ("", "no PEM", broken, csr.replace("REQUEST", "RUBBISH")):
        with pytest.raises(Refused) as refused:
            create_certificate(channel, bad, token=token)
        assert refused.value.code == "INVALID_ARGUMENT", bad
    with pytest.raises(Refused) as refused:
        create_certificate(channel, csr, token=token, seconds=3601)
    assert refused.value.details == "CSR signing error (requested TTL 1h0m1s is greater than the max allowed TTL 1h0m0s)"
    assert len(control.lines("warn", f"ca: no certificate for {WEB} at ")) == 5
    leaf = x509.load_pem_x509_certificate(create_certificate(channel, csr, token=token)[0].encode())
    assert leaf.not_valid_after_utc <= datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=20)
    assert control.metric("citadel_server_csr_parsing_err_count") == 4


def test_who_is_refused_all_day_does_not_fill_the_disk(lateend, issuer):
    control = lateend(JWT_RULE=issuer.rule())
    channel = control.channel()
    for _ in range(200):
        assert refusal(channel)[0] == "UNAUTHENTICATED"
    assert control.metric("citadel_server_authentication_failure_count") == 200
    assert 50 <= len(control.lines("ca: no certificate for")) <= 150  # fifty in ten seconds


def test_other_audiences(lateend, issuer):
    control = lateend(JWT_RULE=issuer.rule(audiences=()), TOKEN_AUDIENCES="one,two")
    channel = control.channel()
    assert create_certificate(channel, request_of()[0], token=issuer.token(aud=["x", "two"]))
    assert refusal(channel, token=issuer.token())[0] == "UNAUTHENTICATED"


def test_the_root_stays(lateend, issuer):
    """Over a restart; a root that was there is taken, none is made beside it."""
    control = lateend(JWT_RULE=issuer.rule())
    root = control.root()
    control.stop()
    assert (control.state / "ca-key.pem").stat().st_mode & 0o777 == 0o600
    control.start()
    assert control.root() == root == (control.state / "ca-cert.pem").read_text()
    wait_until(lambda: control.metric("citadel_server_root_cert_expiry_seconds") > 9 * 365 * 86400, what="the metric")
