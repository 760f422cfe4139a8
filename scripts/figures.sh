#!/usr/bin/env bash
# Measures what docs/performance.md reports: every scenario three times, medians
# beside their targets. Arguments go on to `tegami bench figures`.
set -euo pipefail
cd "$(dirname "$0")/.."
exec bin/tegami bench figures --runs=3 "$@"
