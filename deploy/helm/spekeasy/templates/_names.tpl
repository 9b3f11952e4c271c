{{- define "spekeasy.name" -}}
{{- if contains "spekeasy" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-spekeasy" .Release.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "spekeasy.selector" -}}
app.kubernetes.io/name: spekeasy
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "spekeasy.labels" -}}
{{ include "spekeasy.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | quote }}
{{- end }}

{{- define "spekeasy.serviceAccount" -}}
{{- default (ternary (include "spekeasy.name" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name }}
{{- end }}

{{- define "spekeasy.image" -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}{{ else }}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "spekeasy.config" -}}
{{- if not .Values.config.tenants }}{{ fail "config.tenants: at least one tenant is required" }}{{ end }}
{{- $own := dict "listen" ":8080" "data" "/var/lib/spekeasy" "admin" (dict "listen" ":8081") "log" (dict "format" "json") }}
{{- if .Values.tls.secretName }}
{{- $_ := set $own "tls" (dict "cert_file" "/etc/spekeasy-tls/tls.crt" "key_file" "/etc/spekeasy-tls/tls.key") }}
{{- end }}
{{- merge $own .Values.config | toYaml }}
{{- end }}

{{/* What the server and the migration have in common. */}}
{{- define "spekeasy.container" -}}
image: {{ include "spekeasy.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  capabilities: {drop: [ALL]}
  seccompProfile: {type: RuntimeDefault}
{{- if .Values.secrets }}
envFrom:
{{- range .Values.secrets }}
- secretRef: {name: {{ . | quote }}}
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
env: {{- toYaml . | nindent 2 }}
{{- end }}
volumeMounts:
- {name: config, mountPath: /etc/spekeasy, readOnly: true}
- {name: data, mountPath: /var/lib/spekeasy}
{{- if .Values.tls.secretName }}
- {name: tls, mountPath: /etc/spekeasy-tls, readOnly: true}
{{- end }}
resources: {{- toYaml .Values.resources | nindent 2 }}
{{- end }}

{{- define "spekeasy.volumes" -}}
volumes:
- name: data
  emptyDir: {sizeLimit: {{ .Values.data.sizeLimit | quote }}}
{{- if .Values.tls.secretName }}
- name: tls
  secret: {secretName: {{ .Values.tls.secretName | quote }}, defaultMode: 0440}
{{- end }}
{{- end }}
