{{/* Helm reads every number of a values file as a float, and toToml would write 64 as 64.0, which is no integer to the
program. Turns whole floats back into integers, in place, at any depth. */}}
{{- define "spikewatch.integers" -}}
{{- $table := . -}}
{{- range $key, $value := $table -}}
  {{- if and (kindIs "float64" $value) (eq (floor $value) $value) -}}
    {{- $_ := set $table $key (int64 $value) -}}
  {{- else if kindIs "map" $value -}}
    {{- include "spikewatch.integers" $value -}}
  {{- else if kindIs "slice" $value -}}
    {{- $list := list -}}
    {{- range $value -}}
      {{- $item := dict "item" . -}}
      {{- include "spikewatch.integers" $item -}}
      {{- $list = append $list $item.item -}}
    {{- end -}}
    {{- $_ := set $table $key $list -}}
  {{- end -}}
{{- end -}}
{{- end -}}

{{/* Takes {root, role}: the role's whole configuration file. What the chart must decide wins over the values. */}}
{{- define "spikewatch.config" -}}
{{- $root := .root -}}
{{- $name := include "spikewatch.fullname" $root -}}
{{- $table := deepCopy (get $root.Values .role).config -}}
{{- $_ := set $table "listen" (printf "%s:%s" $root.Values.listenAddress (include "spikewatch.port" .role)) -}}
{{- if eq .role "collector" -}}
  {{- $aggregators := list -}}
  {{- range until (int $root.Values.aggregator.replicas) -}}
    {{- $aggregators = append $aggregators (printf "http://%s-aggregator-%d.%s-aggregator:7432" $name . $name) -}}
  {{- end -}}
  {{- $_ := set $table "aggregators" $aggregators -}}
  {{- $_ := set $table "spool" "/var/lib/spikewatch/spool" -}}
{{- else if eq .role "aggregator" -}}
  {{- $_ := set $table "detector" (printf "http://%s-detector:7433" $name) -}}
{{- else -}}
  {{- $_ := set $table "store" "sqlite:///var/lib/spikewatch/spikewatch.db" -}}
{{- end -}}
{{- $telemetry := merge (dict "metrics_listen" (printf "%s:9464" $root.Values.listenAddress)) (deepCopy $root.Values.telemetry) -}}
{{- $file := dict "telemetry" $telemetry "cluster" (deepCopy $root.Values.cluster) .role $table -}}
{{- include "spikewatch.integers" $file -}}
{{- toToml $file -}}
{{- end -}}

{{/* The UDP ports of the collector's sources, as JSON: [{"name": "netflow-2055", "port": 2055}, …]. */}}
{{- define "spikewatch.udp" -}}
{{- $ports := list -}}
{{- range .Values.collector.config.sources -}}
  {{- with .listen -}}
    {{- $port := regexFind "[0-9]+$" . -}}
    {{- $ports = append $ports (dict "name" (printf "flows-%s" $port) "port" (int $port)) -}}
  {{- end -}}
{{- end -}}
{{- toJson $ports -}}
{{- end -}}
