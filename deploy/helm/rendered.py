"""rendered.py HELM3.yaml HELM4.yaml FOLDER: what both helms render must be the same, confined, and have good TOML in it.

Writes the resources of Kubernetes' own kinds to FOLDER/kubernetes.yaml and every configuration to FOLDER/ROLE.toml.
"""

import pathlib
import sys
import tomllib

import yaml

first, second, folder = sys.argv[1:]


def read(path):
    documents = [d for d in yaml.safe_load_all(open(path)) if d]
    return sorted(documents, key=lambda d: (d["kind"], d["metadata"]["name"]))


resources = read(first)
assert resources == read(second), "helm 3 and helm 4 render different resources"
by_name = {(r["kind"], r["metadata"]["name"]): r for r in resources}
assert len(by_name) == len(resources), "two resources have one name"

folder = pathlib.Path(folder)
folder.mkdir(exist_ok=True)

configs = {}
for resource in resources:
    if resource["kind"] == "ConfigMap":
        role = resource["metadata"]["labels"]["app.kubernetes.io/component"]
        text = resource["data"]["spikewatch.toml"]
        (folder / f"{role}.toml").write_text(text)
        configs[role] = tomllib.loads(text)
assert set(configs) == {"collector", "aggregator", "detector"}

# Whole numbers must have stayed integers: toToml alone would write floats.
def whole_floats(value):
    if isinstance(value, dict):
        return any(whole_floats(v) for v in value.values())
    if isinstance(value, list):
        return any(whole_floats(v) for v in value)
    return isinstance(value, float) and value.is_integer()


assert not whole_floats(configs), f"an integer became a float: {configs}"

workloads = {r["metadata"]["labels"]["app.kubernetes.io/component"]: r
             for r in resources if r["kind"] in ("Deployment", "DaemonSet", "StatefulSet")}
assert set(workloads) == set(configs)
for role, workload in workloads.items():
    pod = workload["spec"]["template"]
    assert workload["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    (container,) = pod["spec"]["containers"]
    assert container["args"][0] == role
    port = int(configs[role][role]["listen"].rsplit(":", 1)[1])
    assert {p["name"]: p["containerPort"] for p in container["ports"]}["grpc"] == port
    assert all(container[probe]["grpc"]["port"] == port for probe in ("startupProbe", "readinessProbe", "livenessProbe"))
    # Kubernetes' "restricted" pod security standard.
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
    assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    mounted = {m["name"] for m in container["volumeMounts"]}
    claims = {c["metadata"]["name"] for c in workload["spec"].get("volumeClaimTemplates", [])}
    assert mounted == {v["name"] for v in pod["spec"]["volumes"]} | claims

# Every address that a role is configured with is a service of this chart, on the port that the other role listens on.
services = {r["metadata"]["name"]: r for r in resources if r["kind"] == "Service"}
collector, aggregator = configs["collector"]["collector"], configs["aggregator"]["aggregator"]
assert len(collector["aggregators"]) == workloads["aggregator"]["spec"]["replicas"]
for address, role in [(a, "aggregator") for a in collector["aggregators"]] + [(aggregator["detector"], "detector")]:
    host, port = address.removeprefix("http://").rsplit(":", 1)
    service = services[host.split(".")[-1]]
    assert service["spec"]["selector"]["app.kubernetes.io/component"] == role
    assert int(port) in [p["port"] for p in service["spec"]["ports"]]
    if "." in host:
        assert host.split(".")[0].rsplit("-", 1)[0] == workloads[role]["metadata"]["name"]

listened = {int(s["listen"].rsplit(":", 1)[1]) for s in collector["sources"] if "listen" in s}
(flows,) = [s for s in services.values() if s["spec"]["ports"][0].get("protocol") == "UDP"]
assert {p["port"] for p in flows["spec"]["ports"]} == listened

own = [r for r in resources if not r["apiVersion"].startswith("monitoring.coreos.com/")]
(folder / "kubernetes.yaml").write_text(yaml.safe_dump_all(own))
