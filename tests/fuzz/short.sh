#!/bin/bash
# timeout: 1200
# What tools/test runs: each target for a moment, with the same inputs every time.
exec "$(dirname "$0")/../../tools/fuzz" --runs 10000 --build "${OBJMIG_FUZZ_BUILD:?where tools/fuzz builds}"
