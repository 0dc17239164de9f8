#!/usr/bin/env bash
# A Ray cluster of one node on this machine, until it is interrupted. It listens on 127.0.0.1 alone,
# and its token, sockets and logs are in a folder of this user alone.
#
#   cluster/local.sh [FOLDER]       by default build/cluster; another one for a second cluster
#
# Then, in another shell, with what it prints:
#
#   source FOLDER/environment
#   ray job submit --working-dir . -- python -m farm.run matrices/demo.yaml --results "$PWD/results"
#
# PORT, DASHBOARD_PORT, CLIENT_PORT: where it listens (6379, 8265, 10001), besides ports that Ray
# chooses. CPUS: how many Ray may give away (all).
set -euo pipefail
umask 077
cd "$(dirname "${BASH_SOURCE[0]}")/.."
command -v ray > /dev/null || export PATH="$PWD/${VENV:-.venv}/bin:$PATH"

folder=${1:-build/cluster}
port=${PORT:-6379} dashboard=${DASHBOARD_PORT:-8265}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
chmod 700 "$folder"

[[ -s $folder/token ]] || python -c 'import secrets; print(secrets.token_hex(32), end="")' > "$folder/token"
chmod 600 "$folder/token"
cat > "$folder/environment" <<END
export PATH="$PATH"
export RAY_AUTH_MODE=token
export RAY_AUTH_TOKEN_PATH="$folder/token"
export RAY_API_SERVER_ADDRESS=http://127.0.0.1:$dashboard
END
# shellcheck source=/dev/null
source "$folder/environment"
unset RAY_ADDRESS RAY_AUTH_TOKEN

# The paths of Ray's sockets may have 107 characters, and Ray opens its own folder to everybody.
sockets=$(mktemp -d /tmp/farm-cluster-XXXXXX)

# By this Ray keeps 127.0.0.1; else it puts the machine's address in its place.
export RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0
ray start --head --block --node-ip-address 127.0.0.1 --port "$port" \
    --dashboard-host 127.0.0.1 --dashboard-port "$dashboard" --dashboard-agent-listen-port 0 \
    --ray-client-server-port "${CLIENT_PORT:-10001}" --min-worker-port 0 --max-worker-port 0 \
    --num-cpus "${CPUS:-$(nproc)}" --object-store-memory 200000000 --disable-usage-stats --temp-dir "$sockets/r" &
head=$!
trap 'kill "$head" 2> /dev/null || true; wait "$head" || true; rm -rf "$sockets"' EXIT
trap 'exit 130' INT TERM
wait "$head"
