#!/usr/bin/env bash
# Two prompts one after the other, then side by side: what a backend's concurrency switch does to the waiting time.
# usage: one_or_many_at_once.sh [BACKEND]     talks to a running service (EXPRESSLANE_ADDRESS, default 127.0.0.1:50051)
set -euo pipefail

PATH=$PATH:$(dirname "$0")/../.venv/bin # where `make` installs
backend=${1:-simulated}
work=$(mktemp -d)
trap 'expresslane backends enable "$backend" >/dev/null; rm -rf "$work"' EXIT

for id in first second; do
  printf '{"custom_id": "%s", "prompt": "Why is the sky blue? (%s)", "max_tokens": 64}\n' "$id" "$id"
done >"$work/two.jsonl"

for switch in disable enable; do
  expresslane backends "$switch" "$backend" >/dev/null
  expresslane run "$work/two.jsonl" --output "$work/$switch.jsonl" 2>/dev/null
  python3 - "$switch" "$work/$switch.jsonl" <<'PYTHON'
import json, sys

label = {"disable": "one at a time", "enable": "side by side"}[sys.argv[1]]
results = [json.loads(line) for line in open(sys.argv[2])]
for result in sorted(results, key=lambda result: result["total_ms"]):
    print(f"{label:14} {result['custom_id']:7} waited {result['queue_ms']:7.0f} ms, done after {result['total_ms']:7.0f} ms")
PYTHON
done
