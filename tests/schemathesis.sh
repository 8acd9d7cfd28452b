#!/usr/bin/env bash
# Asks a running daemon everything that its /openapi.json allows, and much that
# it does not, and fails if an answer is not as described there, or if it does not
# come to its end. Ends with 77 where schemathesis is not installed; .ci/run installs it.
#
#   tests/schemathesis.sh [URL]       of the status listener; else one is started
set -euo pipefail
cd "$(dirname "$0")/.."

# Ten times what it takes, in seconds.
limit=300

schemathesis=$(PATH="$PWD/target/tools/bin:$PATH" type -P schemathesis || true)
if [ -z "$schemathesis" ]; then
    echo "schemathesis is not installed" >&2
    exit 77
fi

work=$(mktemp -d)
started=()
cleanup() {
    for process in "${started[@]}"; do kill "$process" 2>/dev/null || true; done
    rm -rf "$work"
}
trap cleanup EXIT

# Waits until a line of a log has these words, and gives the address behind them.
address() {
    for _ in $(seq 300); do
        if found=$(grep -om1 "$2 http://[0-9.:]*" "$1"); then
            echo "${found##* }"
            return
        fi
        sleep 0.1
    done
    cat "$1" >&2
    return 1
}

url=${1:-}
if [ -z "$url" ]; then
    cargo build --locked --quiet
    program=target/debug/dispatchd
    "$program" sandbox --listen 127.0.0.1:0 2>"$work/sandbox.log" &
    started+=($!)
    api=$(address "$work/sandbox.log" "answers at")
    "$program" run --api-url "$api" --api-rate 60000 --listen 127.0.0.1:0 \
        --status-listen 127.0.0.1:0 --state :memory: --sink none 2>"$work/daemon.log" &
    started+=($!)
    url=$(address "$work/daemon.log" "status is told at")
fi

# The stream does not end, so it cannot be asked for in this way; other tests
# hold it against the document. What is left behind goes with the folder.
cd "$work"
cat > schemathesis.toml <<'TOML'
# A schema cannot say that a time is ahead, nor that a reason is one line.
[[operations]]
include-name = "PUT /sites/{id}/override"
checks.positive_data_acceptance.expected-statuses = ["200", "400", "404"]
TOML
timeout --signal INT "$limit" "$schemathesis" run "$url/openapi.json" --exclude-path /events --checks all \
    --max-examples 50 --request-timeout 20 || {
    status=$?
    [ "$status" != 124 ] || echo "schemathesis has not ended in $limit seconds" >&2
    exit "$status"
}
