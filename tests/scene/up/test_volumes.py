"""Volumes of Pods: emptyDir, ConfigMaps as files and as environment, and what is said of other kinds."""
import json

from mesh_lib import wait_until

SETTINGS = """
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {LEVEL: COLOUR, app.conf: "colour = COLOUR\\n", other.conf: unused}
---
"""


def pod(name, containers, volumes, init=()):
    spec = {"initContainers": list(init), "containers": containers, "volumes": volumes, "terminationGracePeriodSeconds": 1}
    made = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
        "selector": {"matchLabels": {"app": name}}, "template": {"metadata": {"labels": {"app": name}}, "spec": spec}}}
    return json.dumps(made) + "\n---\n"


def container(name, script, mounts, **more):
    return {"name": name, "image": "x", "command": ["sh", "-c", script],
            "volumeMounts": [{"name": volume, "mountPath": path, **how} for volume, path, how in mounts], **more}


def test_empty_dirs_are_shared_and_outlive_containers(mesh):
    data = [("data", "/data", {})]
    counts = "echo run >>/data/runs; test $(wc -l </data/runs) -ge 3 || exit 1; sleep 1000"
    mesh.write("a.yaml", pod("app", [container("main", counts, data),
                                     container("reader", "sleep 1000", [("data", "/seen", {"readOnly": True}), ("cache", "/var/cache/app", {})])],
                             [{"name": "data", "emptyDir": {}}, {"name": "cache", "emptyDir": {"medium": "Memory"}}],
                             init=[container("before", "echo first >/data/first", data)]))
    mesh.up(wait=False)
    wait_until(mesh.is_there, 10, "an answer")

    def read(*files):
        return mesh.exec("app", "cat", *files, container="reader", check=False).split()

    wait_until(lambda: read("/seen/runs") == ["run"] * 3, 20, "the third run of the container")
    assert read("/seen/first") == ["first"]
    write = "echo x >/var/cache/app/mine && ! echo x >/seen/mine && stat -f -c %T /seen && echo good"
    assert mesh.exec("app", "sh", "-c", write, container="reader").split()[-2:] == ["tmpfs", "good"]
    mesh.write("a.yaml", pod("app", [container("main", "ls -A /data; sleep 1000", data)], [{"name": "data", "emptyDir": {}}]))
    wait_until(lambda: len(mesh.workloads().get("app", [])) == 1 and len(mesh.workloads()["app"][0]["containers"]) == 1, 20, "the new Pod alone")
    mesh.wait()
    assert mesh.logs("app", "main") == ""  # another Pod's is empty


def test_config_maps_are_files_and_variables(mesh):
    mounts = [("all", "/etc/app", {}), ("some", "/etc/some", {})]
    script = "cat /etc/app/app.conf /etc/some/deep/name; ls /etc/app /etc/some; echo $LEVEL $MY_LEVEL; ! echo x >/etc/app/mine; sleep 1000"
    app = container("main", script, mounts, envFrom=[{"configMapRef": {"name": "settings"}}, {"prefix": "MY_", "configMapRef": {"name": "settings"}}])
    volumes = [{"name": "all", "configMap": {"name": "settings"}},
               {"name": "some", "configMap": {"name": "settings", "items": [{"key": "app.conf", "path": "deep/name"}]}}]

    def told(colour):
        return f"colour = {colour}\n" * 2 + f"/etc/app:\nLEVEL\napp.conf\nother.conf\n\n/etc/some:\ndeep\n{colour} {colour}\n"

    mesh.write("map.yaml", SETTINGS.replace("COLOUR", "blue"))
    mesh.write("a.yaml", pod("app", [app], volumes))
    mesh.up()
    wait_until(lambda: mesh.logs("app", "main").startswith(told("blue")), 10, mesh.logs("app", "main"))
    before = mesh.workloads()["app"][0]["name"]
    mesh.write("map.yaml", SETTINGS.replace("COLOUR", "red"))
    wait_until(lambda: [p["name"] for p in mesh.workloads()["app"]] not in ([before], []) and len(mesh.workloads()["app"]) == 1, 20, "a new Pod")
    wait_until(lambda: mesh.logs("app", "main").startswith(told("red")), 10, "the new values")


def test_what_is_not_there_is_said(mesh):
    mounts = [("secret", "/secret", {}), ("typo", "/typo", {}), ("gone", "/gone", {}), ("data", "/sub", {"subPath": "x"}), ("data", "/data", {})]
    mesh.write("a.yaml", pod("app", [container("main", "ls -d /secret /typo /sub; ls -d /data; sleep 1000", mounts)],
                             [{"name": "secret", "secret": {"secretName": "s"}}, {"name": "gone", "configMap": {"name": "gone"}}, {"name": "data", "emptyDir": {}}]))
    mesh.up()
    said = [line.split("container main: ", 1)[1] for line in mesh.output().splitlines() if "container main: volume" in line]
    assert sorted(said) == ["volume data at /sub is not there: subPath is not acted on yet", "volume gone at /gone is not there: there is no ConfigMap of that name",
                            "volume secret at /secret is not there: only emptyDir and configMap are acted on yet",
                            "volume typo at /typo is not there: there is no volume of this name"], mesh.output()
    wait_until(lambda: mesh.logs("app", "main").endswith("/data\n"), 10, "the end of the list")
