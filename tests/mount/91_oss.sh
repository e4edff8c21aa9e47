#!/bin/bash
# Alibaba OSS with real mounts.
# timeout: 240
. "$(dirname "$0")/../lib/lib.sh"
. "$TESTS_DIR/lib/provider.sh"
provider_test oss Archive
done_testing
