{{- define "tegami.name" -}}
{{- if contains "tegami" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-tegami" .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- /* tegami.selector takes (list context role). */ -}}
{{- define "tegami.selector" -}}
{{- $context := index . 0 -}}
app.kubernetes.io/name: tegami
app.kubernetes.io/instance: {{ $context.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "tegami.labels" -}}
{{- $context := index . 0 -}}
{{ include "tegami.selector" . }}
app.kubernetes.io/version: {{ $context.Values.image.tag | quote }}
app.kubernetes.io/part-of: tegami
app.kubernetes.io/managed-by: {{ $context.Release.Service }}
{{- end -}}

{{- define "tegami.image" -}}
{{ printf "%s:%s" .Values.image.repository .Values.image.tag }}
{{- end -}}

{{- define "tegami.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- /* tegami.environment is what depends on the pod. */ -}}
{{- define "tegami.environment" -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_IP
  valueFrom: {fieldRef: {fieldPath: status.podIP}}
- name: TEGAMI_CONFIG
  value: /etc/tegami/tegami.yaml
- name: TEGAMI_DATA_DIR
  value: /data
- name: TEGAMI_ADMIN_LISTEN
  value: :7401
- name: TEGAMI_ADMIN_ALLOW_PLAINTEXT
  value: "true"
- name: TEGAMI_CLUSTER_NAME
  value: $(POD_NAME)
- name: TEGAMI_CLUSTER_LISTEN
  value: :7500
- name: TEGAMI_CLUSTER_ADVERTISE
  value: $(POD_IP):7500
- name: TEGAMI_CLUSTER_CERT
  value: /certs/$(POD_NAME).pem
- name: TEGAMI_CLUSTER_KEY
  value: /certs/$(POD_NAME).key
- name: TEGAMI_CLUSTER_CA
  value: /secrets/ca.pem
{{- end -}}

{{- /* tegami.identity makes what a node alone has before it starts: copies of the
secrets that nobody else may read, and its certificate. It takes (list context role). */ -}}
{{- define "tegami.identity" -}}
{{- $context := index . 0 -}}
- name: identity
  image: {{ include "tegami.image" $context }}
  imagePullPolicy: {{ $context.Values.image.pullPolicy }}
  command: [sh, -ec]
  args:
    - |
      install -m 600 /secrets/admin.token /secrets/signing.key /data/
      tegami admin cert node "$POD_NAME" --dir /certs --role {{ index . 1 }} --address "$POD_IP" --valid {{ $context.Values.certificateValidity }}
  env:
    - name: POD_NAME
      valueFrom: {fieldRef: {fieldPath: metadata.name}}
    - name: POD_IP
      valueFrom: {fieldRef: {fieldPath: status.podIP}}
  volumeMounts:
    - {name: data, mountPath: /data}
    - {name: certs, mountPath: /certs}
    - {name: secrets, mountPath: /secrets, readOnly: true}
    - {name: secrets, mountPath: /certs/ca.pem, subPath: ca.pem, readOnly: true}
    - {name: authority, mountPath: /certs/ca.key, subPath: ca.key, readOnly: true}
  resources:
    requests: {cpu: 50m, memory: 64Mi}
    limits: {memory: 256Mi}
  securityContext:
    {{- include "tegami.securityContext" $context | nindent 4 }}
{{- end -}}

{{- define "tegami.mounts" -}}
- {name: config, mountPath: /etc/tegami, readOnly: true}
- {name: secrets, mountPath: /secrets, readOnly: true}
- {name: data, mountPath: /data}
{{- end -}}

{{- define "tegami.nodeMounts" -}}
{{ include "tegami.mounts" . }}
- {name: certs, mountPath: /certs, readOnly: true}
{{- end -}}

{{- define "tegami.volumes" -}}
- name: config
  configMap: {name: {{ include "tegami.name" . }}}
- name: secrets
  secret: {secretName: {{ .Values.secretName }}, defaultMode: 0440}
- name: data
  emptyDir: {medium: Memory, sizeLimit: 16Mi}
{{- end -}}

{{- define "tegami.nodeVolumes" -}}
{{ include "tegami.volumes" . }}
- name: certs
  emptyDir: {medium: Memory, sizeLimit: 16Mi}
- name: authority
  secret: {secretName: {{ .Values.authoritySecretName }}, defaultMode: 0440}
{{- end -}}

{{- /* tegami.pod is what all pods have. It takes (list context role). */ -}}
{{- define "tegami.pod" -}}
{{- $context := index . 0 -}}
{{- $values := index $context.Values (index . 1) -}}
{{- if and (eq $context.Values.config.cluster.membership "kubernetes") (ne (index . 1) "worker") }}
serviceAccountName: {{ include "tegami.name" $context }}
automountServiceAccountToken: true
{{- else }}
automountServiceAccountToken: false
{{- end }}
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "tegami.selector" . | nindent 8 }}
{{- with $context.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "tegami.podAnnotations" -}}
{{- $context := index . 0 -}}
{{- $values := index $context.Values (index . 1) -}}
checksum/config: {{ toYaml $context.Values.config | sha256sum }}
prometheus.io/scrape: "true"
prometheus.io/port: "7401"
{{- with $values.podAnnotations }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* tegami.probes: a start may wait for Kafka and HBase, and for the replay. */ -}}
{{- define "tegami.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: admin}
  periodSeconds: 2
  failureThreshold: 60
readinessProbe:
  httpGet: {path: /readyz, port: admin}
  periodSeconds: 2
  failureThreshold: 2
livenessProbe:
  httpGet: {path: /healthz, port: admin}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- end -}}
