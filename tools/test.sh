#!/usr/bin/env bash
# All tests. The quick ones run while the tools are built; the real ones need both root and the tools.
set -uo pipefail
cd "$(dirname "$0")/.."
log=$(mktemp)
others=$(mktemp)
trap 'rm -f "$log" "$others"; kill $(jobs -p) 2>/dev/null' EXIT
trap 'exit 130' INT TERM
tools/node scenarios/lab/tools-cli.ts install >"$log" 2>&1 &
building=$!
tools/node node_modules/vitest/vitest.mjs run --project unit --project fuzz
unit=$?
# New seeds each time, and those that are kept; a failing one prints itself.
tools/node test/sim/main.ts --seconds "${ISTHMUS_SIM_SECONDS:-75}"
sim=$?
if kill -0 "$building" 2>/dev/null; then
  echo "test: waiting for the tools (first use: about seven minutes)" >&2
  tail -n +1 -f --pid="$building" "$log" >&2
fi
wait "$building"
built=$?
if [ "$built" -ne 0 ]; then
  cat "$log" >&2
  echo "test: the tools could not be built; see above" >&2
  exit 1
fi
# Side by side: these wait for stores more than they compute, those wait for Envoys.
tools/node node_modules/vitest/vitest.mjs run --project real --project attacks >"$others" 2>&1 &
beside=$!
tools/node node_modules/vitest/vitest.mjs run --project mesh
mesh=$?
wait "$beside"
real=$?
cat "$others"
# Chaos on a whole lab: those that take least long. What happened is judged, not how quick this machine was.
# 75: no valid run, the machine was too busy to measure; not a failure.
tools/node scenarios/chaos/main.ts --patience 4 1-gateway 3-controllers 4-one 5-service 9-drain
chaos=$?
if [ "$chaos" -eq 75 ]; then
  echo "test: some scenarios had no valid run on this machine; see above" >&2
  chaos=0
fi
[ "$unit" -eq 0 ] && [ "$sim" -eq 0 ] && [ "$real" -eq 0 ] && [ "$mesh" -eq 0 ] && [ "$chaos" -eq 0 ]
