{{/* Names are fixed: there is one installation in a cluster, and the operator knows its ClusterRoles by name. */}}
{{- define "ers.selector" -}}
app.kubernetes.io/name: ers-operator
{{- end }}
{{- define "ers.labels" -}}
app.kubernetes.io/name: ers-operator
app.kubernetes.io/part-of: ers
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}
