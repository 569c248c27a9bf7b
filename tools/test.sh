#!/usr/bin/env bash
# All tests. The quick ones run while the tools are built; the real ones need both root and the tools.
# The last lines say what failed: whoever sees only the end of a log must not have to guess.
set -uo pipefail
cd "$(dirname "$0")/.."
out=out/test
rm -rf "$out"
mkdir -p "$out"
log=$out/tools.log
trap 'kill $(jobs -p) 2>/dev/null' EXIT
trap 'exit 130' INT TERM
verdicts=()
failed=0

# verdict <part> <exit code> <since, in seconds>
verdict() {
  local word=passed
  if [ "$2" -ne 0 ]; then
    word="FAILED ($2)"
    failed=1
  fi
  verdicts+=("$(printf '%-6s %-12s %5d s' "$1" "$word" $((SECONDS - $3)))")
}

# vitest <part> <arguments…>: what is printed stays in out/test/<part>.log too.
vitest() {
  local part=$1
  shift
  tools/node node_modules/vitest/vitest.mjs run "$@" --reporter=default --reporter=json --outputFile.json="$out/$part.json" 2>&1 |
    tee "$out/$part.log"
}

# again <part> <projects…>: the files that failed, once more, with the machine to themselves. A setup that fails is not tried again
# by vitest, a test is. What fails here is broken; what passes is named in the verdict, so that it is not forgotten.
again() {
  local part=$1 files
  shift
  files=$(tools/node tools/failed-files.ts "$out/$part.json") || return 1
  [ -n "$files" ] || return 1
  echo "test: once more: $files" >&2
  # shellcheck disable=SC2086 # one word a file
  vitest "$part-again" "$@" $files || return 1
  verdicts+=("       $part passed at the second try only: $files")
}

tools/node scenarios/lab/tools-cli.ts install >"$log" 2>&1 &
building=$!
start=$SECONDS
vitest unit --project unit --project fuzz || again unit --project unit --project fuzz
verdict unit $? $start
start=$SECONDS
# New seeds each time, and those that are kept; a failing one prints itself.
tools/node test/sim/main.ts --seconds "${ISTHMUS_SIM_SECONDS:-75}" 2>&1 | tee "$out/sim.log"
verdict sim $? $start
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
start=$SECONDS
vitest real --project real --project attacks >/dev/null &
beside=$!
vitest mesh --project mesh
mesh=$?
wait "$beside"
real=$?
cat "$out/real.log"
[ "$mesh" -eq 0 ] || again mesh --project mesh
verdict mesh $? $start
[ "$real" -eq 0 ] || again real --project real --project attacks
verdict real $? $start
start=$SECONDS
# Chaos on a whole lab: those that take least long. What happened is judged, not how quick this machine was.
# 75: no valid run, the machine was too busy to measure; not a failure.
tools/node scenarios/chaos/main.ts --patience 4 1-gateway 3-controllers 4-one 5-service 9-drain 2>&1 | tee "$out/chaos.log"
chaos=$?
if [ "$chaos" -eq 75 ]; then
  echo "test: some scenarios had no valid run on this machine; see above" >&2
  chaos=0
fi
verdict chaos "$chaos" $start

echo
echo "test: the parts, and what failed in them (whole logs: $out/)"
printf '  %s\n' "${verdicts[@]}"
if [ "$failed" -ne 0 ]; then
  # The name of a test that failed and the first line of why; an error outside of any test has a heading of its own.
  for part in unit sim mesh real chaos; do
    last=$out/$part.log
    [ -f "$out/$part-again.log" ] && last=$out/$part-again.log
    sed -E 's/\x1b\[[0-9;]*m//g' "$last" | grep -E -A1 '^ *(FAIL |⎯+ Uncaught|⎯+ Unhandled Rej|sim: [^ ]+: )' | grep -v '^--$' | cut -c1-200 | awk '!seen[$0]++' | head -n 12
  done
fi
exit "$failed"
