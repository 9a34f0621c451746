{{/* Takes {root, role}: the pod template that the three roles share. */}}
{{- define "spikewatch.pod" -}}
{{- $values := get .root.Values .role -}}
metadata:
  labels:
    {{- include "spikewatch.labels" . | nindent 4 }}
  annotations:
    # A changed configuration is a changed pod.
    checksum/config: {{ include "spikewatch.config" . | sha256sum }}
    {{- with $values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "spikewatch.serviceAccount" .root }}
  automountServiceAccountToken: false
  {{- with .root.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  # Longer than the program's own deadline for draining.
  terminationGracePeriodSeconds: 45
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  containers:
    - name: {{ .role }}
      image: {{ include "spikewatch.image" .root }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      args: [{{ .role }}, --config, /etc/spikewatch/spikewatch.toml]
      env:
        - name: SPIKEWATCH__NODE__NAME
          valueFrom:
            fieldRef:
              fieldPath: metadata.name
        {{- if eq .role "aggregator" }}
        # Collectors connect to each aggregator by its own name.
        - name: SPIKEWATCH__AGGREGATOR__ADVERTISE
          value: http://$(SPIKEWATCH__NODE__NAME).{{ include "spikewatch.fullname" .root }}-aggregator:7432
        {{- end }}
        {{- with $values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - name: grpc
          containerPort: {{ include "spikewatch.port" .role }}
        - name: metrics
          containerPort: 9464
        {{- if eq .role "collector" }}
        {{- range include "spikewatch.udp" .root | fromJsonArray }}
        - name: {{ .name }}
          containerPort: {{ .port }}
          protocol: UDP
          {{- if $values.hostPorts }}
          hostPort: {{ .port }}
          {{- end }}
        {{- end }}
        {{- end }}
      # Rebuilding baselines from a long commit log may take minutes; the two other probes begin only after this one.
      startupProbe:
        grpc:
          port: {{ include "spikewatch.port" .role }}
        periodSeconds: 5
        failureThreshold: 120
      readinessProbe:
        grpc:
          port: {{ include "spikewatch.port" .role }}
        periodSeconds: 5
        timeoutSeconds: 2
      # Slow to judge: a restart costs open windows, and a role that only waits for the next one is alive.
      livenessProbe:
        grpc:
          port: {{ include "spikewatch.port" .role }}
        periodSeconds: 15
        timeoutSeconds: 5
        failureThreshold: 4
      resources:
        {{- toYaml $values.resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      volumeMounts:
        - name: config
          mountPath: /etc/spikewatch
          readOnly: true
        - name: state
          mountPath: /var/lib/spikewatch
        - name: tmp
          mountPath: /tmp
        {{- with $values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ include "spikewatch.fullname" .root }}-{{ .role }}
    - name: tmp
      emptyDir:
        sizeLimit: 256Mi
    {{- with $values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- if not (and (eq .role "detector") .root.Values.detector.persistence.enabled) }}
    - name: state
      emptyDir: {}
    {{- end }}
  {{- with $values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  # One node's loss takes as few of a role as can be.
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "spikewatch.selector" . | nindent 10 }}
{{- end -}}
