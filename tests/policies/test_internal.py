"""KFP's own controllers at the API server: by the rights that KFP ships for them, and nobody else."""

from __future__ import annotations

from pathlib import Path

import pytest

from extauthz.access import rbac
from extauthz.demo.mesh import MANIFESTS
from extauthz.gateway import Gateway
from extauthz.request import read
from extauthz.settings import ResponseSettings
from tests.cases import Named, decided
from tests.policies.probe import Objects
from tests.policies.test_routes import shipped

AGENT = "system:serviceaccount:kubeflow:ml-pipeline-persistenceagent"
SCHEDULER = "system:serviceaccount:kubeflow:ml-pipeline-scheduledworkflow"
DRIVER = "system:serviceaccount:team-a:default-editor"
OWNER = "alice@example.com"
V2 = "/kubeflow.pipelines.backend.api.v2beta1"

ROLES = """\
apiVersion: v1
kind: List
items:
  - apiVersion: rbac.authorization.k8s.io/v1
    kind: ClusterRole
    metadata: {name: agent}
    rules:
      - {apiGroups: [pipelines.kubeflow.org], resources: [scheduledworkflows, workflows], verbs: [report]}
      - {apiGroups: [pipelines.kubeflow.org], resources: [runs], verbs: [reportMetrics, readArtifact]}
  - apiVersion: rbac.authorization.k8s.io/v1
    kind: ClusterRole
    metadata: {name: scheduler}
    rules:
      - {apiGroups: [pipelines.kubeflow.org], resources: [runs], verbs: [create]}
  - apiVersion: rbac.authorization.k8s.io/v1
    kind: ClusterRoleBinding
    metadata: {name: agent}
    roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: agent}
    subjects: [{kind: ServiceAccount, name: ml-pipeline-persistenceagent, namespace: kubeflow}]
  - apiVersion: rbac.authorization.k8s.io/v1
    kind: ClusterRoleBinding
    metadata: {name: scheduler}
    roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: scheduler}
    subjects: [{kind: ServiceAccount, name: ml-pipeline-scheduledworkflow, namespace: kubeflow}]
"""


@pytest.mark.parametrize(
    ("path", "who"),
    [
        (f"{V2}.ReportService/ReportWorkflow", {AGENT}),
        (f"{V2}.ReportService/ReportScheduledWorkflow", {AGENT}),
        ("/api.ReportService/ReportWorkflowV1", {AGENT}),
        ("/api.RunService/ReportRunMetricsV1", {AGENT}),
        ("/apis/v2beta1/workflows", {AGENT}),
        ("/apis/v1beta1/runs/run.team-a:reportMetrics", {AGENT}),
        (f"{V2}.RunService/CreateRun", {SCHEDULER}),
        (f"{V2}.RunService/GetRun", set()),
        ("/api.RunService/CreateRunV1", set()),
        ("/api.TaskService/CreateTaskV1", set()),
        ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", set()),
        ("/another.Service/Method", set()),
    ],
)
def test_a_controller_passes_where_it_has_work(tmp_path: Path, path: str, who: set[str]) -> None:
    """Neither owners nor pods of a tenant come this far, though they hold the same verbs in their namespace."""
    (tmp_path / "roles.yaml").write_text(ROLES)
    authorizer = rbac.RbacAuthorizer(rbac.load([MANIFESTS, tmp_path]))
    passed = set()
    for user in (AGENT, SCHEDULER, DRIVER, OWNER, ""):
        gateway = Gateway(
            policy=shipped("ml-pipeline"),
            authenticator=Named(user),
            authorizer=authorizer,
            response=ResponseSettings(),
            lookup=Objects(),
        )
        if decided(gateway.decide(read(method="POST", target=path, headers={}))).allowed:
            passed.add(user)
    assert passed == who
