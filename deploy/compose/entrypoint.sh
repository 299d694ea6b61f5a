#!/bin/sh
# Object stores are configured by AWS_… variables alone: AWS_SECRET_ACCESS_KEY_FILE=/run/secrets/… becomes
# AWS_SECRET_ACCESS_KEY. rexis reads its own secrets from files by itself (REXIS_SECRETS_DIR).
set -eu
for name in AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY; do
    eval "file=\${${name}_FILE:-}"
    if [ -n "$file" ]; then
        value=$(cat "$file")
        export "$name=$value"
        unset "${name}_FILE"
    fi
done
exec "$@"
