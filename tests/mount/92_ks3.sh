#!/bin/bash
# Kingsoft KS3 with real mounts.
# timeout: 240
. "$(dirname "$0")/../lib/lib.sh"
. "$TESTS_DIR/lib/provider.sh"
provider_test ks3 ARCHIVE
done_testing
