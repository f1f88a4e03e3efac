"""HTTP filters whose configuration comes by itself (ECDS)."""
import pytest

from lib import client
from lib.backend import free_port
from lib.client import wait_until
from lib.proxy import hcm, listener, route
from lib.xds import ECDS, LDS, PREFIX, ads_source, cluster_of_static, dynamic_bootstrap, with_type

API_TYPES = ["GRPC", "DELTA_GRPC"]
RBAC = PREFIX + "envoy.extensions.filters.http.rbac.v3.RBAC"

CONTROL = {"missing": "silent"}


def rbac(action):
    everybody = {"permissions": [{"any": True}], "principals": [{"any": True}]}
    return {"@type": RBAC, "rules": {"action": action, "policies": {"all": everybody}}}


def extension(config, name="guard"):
    return {"@type": ECDS, "name": name, "typed_config": config}


def discovered(port, **fields):
    """Envoy waits for it at the start, for the time that it is given; lateen-proxy does not."""
    guard = {"name": "guard", "config_discovery": {"config_source": ads_source(initial_fetch_timeout="0.5s"), "type_urls": [RBAC], **fields}}
    return with_type(LDS, listener(hcm([route("/", "web")], http_filters=[guard]), port=port))


def answers(port):
    try:
        return client.get(port, "/").status
    except OSError:
        return None


def until_answers(port, status):
    wait_until(lambda: answers(port) == status, 15, f"{status} from {port}")


@pytest.mark.parametrize("api_type", API_TYPES)
def test_a_filter_that_comes_and_changes(run_proxy, backends, control, api_type):
    port = free_port()
    control.set(extension(rbac("DENY")), cluster_of_static("web", backends().port), discovered(port))
    run_proxy(dynamic_bootstrap(control, api_type))
    until_answers(port, 403)
    control.set(extension(rbac("ALLOW")))
    until_answers(port, 200)
    control.set(extension(rbac("DENY")))
    until_answers(port, 403)
    stream = control.stream(having=ECDS)
    assert stream.names(ECDS) == {"guard"} and not stream.nacks(ECDS)


def test_nothing_passes_before_it_has_come(run_proxy, backends, control):
    port = free_port()
    control.withhold(ECDS)
    control.set(extension(rbac("ALLOW")), cluster_of_static("web", backends().port), discovered(port))
    run_proxy(dynamic_bootstrap(control), ready=False)
    until_answers(port, 500)
    control.release(ECDS)
    until_answers(port, 200)


def test_the_default_until_then(run_proxy, backends, control):
    port = free_port()
    control.withhold(ECDS)
    control.set(extension(rbac("ALLOW")), cluster_of_static("web", backends().port),
                discovered(port, default_config=rbac("DENY"), apply_default_config_without_warming=True))
    run_proxy(dynamic_bootstrap(control), ready=False)
    until_answers(port, 403)
    control.release(ECDS)
    until_answers(port, 200)


def test_a_refused_one_leaves_the_one_before(run_proxy, backends, control):
    port = free_port()
    control.set(extension(rbac("ALLOW")), cluster_of_static("web", backends().port), discovered(port))
    run_proxy(dynamic_bootstrap(control))
    until_answers(port, 200)
    control.set(extension({**rbac("ALLOW"), "rules": {"action": "ALLOW", "policies": {"none": {}}}}))
    stream = control.stream(having=ECDS)
    nack = wait_until(lambda: stream.nacks(ECDS), 10, "a NACK")[0]
    assert nack.error_detail.code == 13 and answers(port) == 200


@pytest.mark.lateen_only  # Envoy loads what it can reach, and refuses the rest
@pytest.mark.parametrize("policy, status", [("FAIL_OPEN", 200), ("FAIL_CLOSED", 500)])
def test_wasm_is_not_run(run_proxy, backends, control, policy, status):
    port = free_port()
    plugin = {"@type": PREFIX + "envoy.extensions.filters.http.wasm.v3.Wasm", "config": {
        "name": "p", "failure_policy": policy, "vm_config": {"runtime": "envoy.wasm.runtime.v8"}}}
    control.set(extension(plugin), cluster_of_static("web", backends().port), discovered(port, type_urls=[plugin["@type"]]))
    run_proxy(dynamic_bootstrap(control), ready=False)
    until_answers(port, status)
    stream = control.stream(having=ECDS)
    if policy == "FAIL_CLOSED":
        assert "Wasm" in wait_until(lambda: stream.nacks(ECDS), 10, "a NACK")[0].error_detail.message
