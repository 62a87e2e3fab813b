"""Objects of Kubernetes: one pod with its volume, and a service in the cluster."""

from __future__ import annotations

import json

from llmctl.workspace.deployment.comment import comment
from llmctl.workspace.deployment.container import DATA, IMAGE, PORT, arguments, reasons
from llmctl.workspace.deployment.service import DRAIN_S, GatewayService

NAMES = ("llmctl", ".svc", ".svc.cluster.local")  # of its service: a page outside can have none of them
MODELS_GI = 20  # beside the models themselves: the cache, and another model


def objects(service: GatewayService) -> str:
    parts = ([*comment(reasons(service)), *_claim(service)], _deployment(service), _address())
    return "\n---\n".join("\n".join(lines) for lines in parts) + "\n"


def _claim(service: GatewayService) -> list[str]:
    return [
        "apiVersion: v1",
        "kind: PersistentVolumeClaim",
        "metadata:",
        "  name: llmctl-models",
        "spec:",
        "  accessModes: [ReadWriteOnce]",
        "  resources:",
        "    requests:",
        f"      storage: {-(-service.memory_bytes // 2**30) + MODELS_GI}Gi",
    ]


def _deployment(service: GatewayService) -> list[str]:
    return [
        "apiVersion: apps/v1",
        "kind: Deployment",
        "metadata:",
        "  name: llmctl",
        "spec:",
        "  replicas: 1",
        "  strategy:",
        "    type: Recreate  # two would not fit where one is planned for",
        "  selector:",
        "    matchLabels:",
        "      app: llmctl",
        "  template:",
        "    metadata:",
        "      labels:",
        "        app: llmctl",
        "    spec:",
        "      automountServiceAccountToken: false",
        f"      terminationGracePeriodSeconds: {DRAIN_S}",
        "      securityContext:",
        "        runAsNonRoot: true",
        "        runAsUser: 1000",
        "        fsGroup: 1000",
        "        seccompProfile:",
        "          type: RuntimeDefault",
        "      containers:",
        *_container(service),
        "      volumes:",
        "        - name: models",
        "          persistentVolumeClaim:",
        "            claimName: llmctl-models",
        "        - name: tmp",
        "          emptyDir: {}",
    ]


def _container(service: GatewayService) -> list[str]:
    memory = f"              memory: {service.memory_mi}Mi"
    gpu = ['              nvidia.com/gpu: "1"'] if service.uses_gpu else []
    probe = [
        "            httpGet:",
        "              path: /health",
        f"              port: {PORT}",
        "              scheme: HTTPS",
    ]
    return [
        "        - name: serve",
        f"          image: {IMAGE}",
        f"          args: {json.dumps(arguments(service, NAMES))}",
        "          ports:",
        f"            - containerPort: {PORT}",
        "              name: https",
        "          resources:",
        "            requests:",
        memory,
        "            limits:",
        memory,
        *gpu,
        "          startupProbe:  # 503 while the first model is loaded, or fetched",
        *probe,
        "            periodSeconds: 5",
        "            failureThreshold: 360",
        "          livenessProbe:",
        *probe,
        "            periodSeconds: 20",
        "            failureThreshold: 6",
        "          securityContext:",
        "            allowPrivilegeEscalation: false",
        "            readOnlyRootFilesystem: true",
        "            capabilities:",
        "              drop: [ALL]",
        "          volumeMounts:",
        "            - name: models",
        f"              mountPath: {DATA}",
        "            - name: tmp",
        "              mountPath: /tmp",
    ]


def _address() -> list[str]:
    return [
        "apiVersion: v1",
        "kind: Service",
        "metadata:",
        "  name: llmctl",
        "spec:",
        "  selector:",
        "    app: llmctl",
        "  ports:",
        f"    - port: {PORT}",
        f"      targetPort: {PORT}",
        "      name: https",
    ]
