#!/bin/sh
# Write the S3 identities to memory and start SeaweedFS: master, volume, filer and S3 gateway in one process.
# Only the S3 gateway leaves the container: the other ports ask nobody who they are.
set -eu

config=${S3_CONFIG:-/run/seaweedfs/s3.json}

for name in S3_ACCESS_KEY S3_SECRET_KEY S3_READER_ACCESS_KEY S3_READER_SECRET_KEY S3_ADMIN_ACCESS_KEY S3_ADMIN_SECRET_KEY S3_BUCKET; do
    eval "value=\${$name:-}"
    case $value in
        '' | *[!A-Za-z0-9._-]*)
            echo "$name must be set, of letters, digits, '.', '_' and '-' only; deploy/make-env writes it to .env." >&2
            exit 1
            ;;
    esac
done

# `lake` reads and writes what is in its bucket; `reader` reads it, for the pages; `admin` makes the bucket and is known to the init service only.
cat >"$config" <<EOF
{
  "identities": [
    {
      "name": "admin",
      "credentials": [{"accessKey": "$S3_ADMIN_ACCESS_KEY", "secretKey": "$S3_ADMIN_SECRET_KEY"}],
      "actions": ["Admin:$S3_BUCKET"]
    },
    {
      "name": "lake",
      "credentials": [{"accessKey": "$S3_ACCESS_KEY", "secretKey": "$S3_SECRET_KEY"}],
      "actions": ["Read:$S3_BUCKET", "Write:$S3_BUCKET", "List:$S3_BUCKET", "Tagging:$S3_BUCKET"]
    },
    {
      "name": "reader",
      "credentials": [{"accessKey": "$S3_READER_ACCESS_KEY", "secretKey": "$S3_READER_SECRET_KEY"}],
      "actions": ["Read:$S3_BUCKET", "List:$S3_BUCKET"]
    }
  ]
}
EOF
# The image starts as root, and goes on as its own user, which reads this. The folder is memory of this container.
chmod 0444 "$config"
unset S3_ACCESS_KEY S3_SECRET_KEY S3_READER_ACCESS_KEY S3_READER_SECRET_KEY S3_ADMIN_ACCESS_KEY S3_ADMIN_SECRET_KEY

# Without a key, the gateway's gRPC port takes changes of identities from anybody who reaches it.
WEED_JWT_FILER_SIGNING_KEY=$(head -c 32 /dev/urandom | base64)
export WEED_JWT_FILER_SIGNING_KEY

exec "${SEAWEEDFS_ENTRYPOINT:-/entrypoint.sh}" server \
    -ip=127.0.0.1 \
    -ip.bind=127.0.0.1 \
    -master.telemetry=false \
    -master.volumePreallocate=false \
    -s3 \
    -s3.ip.bind=0.0.0.0 \
    -s3.port=8333 \
    -s3.port.iceberg=0 \
    -s3.port.lance=0 \
    -s3.iam=false \
    -s3.autoCreateBucket=false \
    -s3.allowDeleteBucketNotEmpty=false \
    -s3.config="$config"
