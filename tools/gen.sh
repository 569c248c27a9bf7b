#!/usr/bin/env bash
# Generates src/gen from proto/ and from the Envoy API that @grpc/grpc-js-xds ships. No network.
set -euo pipefail
cd "$(dirname "$0")/.."
deps=node_modules/@grpc/grpc-js-xds/deps
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r "$deps/envoy-api" "$deps/xds" "$deps/googleapis" "$deps/protoc-gen-validate" "$work/"
cp -r proto "$work/own"
# The shipped validate.proto is older than the Envoy API beside it: two of its messages use StringRules.ignore_empty.
if ! grep -A400 '^message StringRules' "$work/protoc-gen-validate/validate/validate.proto" | sed '/^}/q' | grep -q ignore_empty; then
  sed -i '/^message StringRules {/a\  optional bool ignore_empty = 26;' "$work/protoc-gen-validate/validate/validate.proto"
fi
# The shipped Envoy API is older than the Envoy that is used (1.40): the limits on RST_STREAM have their published numbers.
http2="$work/envoy-api/envoy/config/core/v3/protocol.proto"
if ! grep -q stream_reset_burst "$http2"; then
  sed -i '/^message Http2ProtocolOptions {/a\  google.protobuf.UInt64Value stream_reset_burst = 21;\n  google.protobuf.UInt64Value stream_reset_rate = 22;' "$http2"
fi
# The same of local rate limits: dynamic descriptors, and rate limits in the filter itself.
bucket="$work/envoy-api/envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit.proto"
if ! grep -q max_dynamic_descriptors "$bucket"; then
  sed -i '/^message LocalRateLimit {/a\  repeated config.route.v3.RateLimit rate_limits = 17;\n  google.protobuf.UInt32Value max_dynamic_descriptors = 18;' "$bucket"
  sed -i '/^import "envoy\/config\/core\/v3\/base.proto";/a import "envoy/config/route/v3/route_components.proto";' "$bucket"
fi
cat > "$work/buf.yaml" <<'Y'
version: v2
modules: [{path: own}, {path: envoy-api}, {path: xds}, {path: googleapis}, {path: protoc-gen-validate}]
Y
cat > "$work/buf.gen.yaml" <<Y
version: v2
plugins:
  - local: [node, "$PWD/node_modules/@bufbuild/protoc-gen-es/bin/protoc-gen-es"]
    out: gen
    opt: [target=ts, import_extension=ts, erasable_syntax=true]
    include_imports: true
Y
paths=(
  own/isthmus own/istio own/etcdserverpb
  envoy-api/envoy/config/bootstrap/v3/bootstrap.proto
  envoy-api/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.proto
  envoy-api/envoy/extensions/filters/http/router/v3/router.proto
  envoy-api/envoy/extensions/filters/http/rbac/v3/rbac.proto
  envoy-api/envoy/extensions/filters/http/health_check/v3/health_check.proto
  envoy-api/envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit.proto
  envoy-api/envoy/extensions/filters/network/connection_limit/v3/connection_limit.proto
  envoy-api/envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector.proto
  envoy-api/envoy/extensions/upstreams/http/v3/http_protocol_options.proto
  envoy-api/envoy/extensions/transport_sockets/tls/v3/tls.proto
  envoy-api/envoy/extensions/transport_sockets/tls/v3/secret.proto
  envoy-api/envoy/extensions/http/early_header_mutation/header_mutation/v3/header_mutation.proto
  envoy-api/envoy/extensions/retry/host/previous_hosts/v3/previous_hosts.proto
  envoy-api/envoy/extensions/retry/priority/previous_priorities/v3/previous_priorities_config.proto
  envoy-api/envoy/extensions/access_loggers/grpc/v3/als.proto
  envoy-api/envoy/extensions/access_loggers/stream/v3/stream.proto
  envoy-api/envoy/service/discovery/v3/discovery.proto
  envoy-api/envoy/service/discovery/v3/ads.proto
  envoy-api/envoy/service/load_stats/v3/lrs.proto
  envoy-api/envoy/service/accesslog/v3/als.proto
)
args=()
for p in "${paths[@]}"; do args+=(--path "$p"); done
root=$PWD
(cd "$work" && "$root/node_modules/.bin/buf" generate . "${args[@]}")
rm -rf src/gen && mkdir -p src && cp -r "$work/gen" src/gen
find src/gen -name '*.ts' | wc -l
