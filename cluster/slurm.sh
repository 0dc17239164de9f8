#!/usr/bin/env bash
# A sweep on nodes of Slurm: a Ray cluster for as long as the job, with a token of its own.
#
#   sbatch cluster/slurm.sh matrices/demo.yaml --results /shared/results
#   sbatch --nodes 3 --gres gpu:1 cluster/slurm.sh matrices/coco.yaml --results /shared/results
#
# The words after the script are those of `farm run`. The project and its environment (`make setup`,
# or VENV) are on a file system that all nodes share. Ray's head runs no steps: its node has a
# worker, too. Jobs that share nodes with others need ports of their own: PORT, and the next one.
#SBATCH --job-name farm
#SBATCH --nodes 2
#SBATCH --ntasks-per-node 1
#SBATCH --cpus-per-task 8
#SBATCH --time 12:00:00
set -euo pipefail
umask 077
cd "${SLURM_SUBMIT_DIR:?start this with sbatch, in the project folder}"
command -v ray > /dev/null || export PATH="$PWD/${VENV:-.venv}/bin:$PATH"

port=${PORT:-6379}
head=$SLURMD_NODENAME
address=$(hostname --all-ip-addresses | cut -d ' ' -f 1)

# A folder of this user on each node, for the token and Ray's folder, which Ray opens to everybody.
export RAY_TMPDIR=/tmp/farm-$SLURM_JOB_ID
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$RAY_TMPDIR/token
on_all() { srun --nodes "$SLURM_JOB_NUM_NODES" --ntasks "$SLURM_JOB_NUM_NODES" --overlap "$@"; }
on_all mkdir -m 700 "$RAY_TMPDIR"
clear_up() {
    jobs -p | xargs --no-run-if-empty kill 2> /dev/null || true
    wait || true
    on_all rm -rf "$RAY_TMPDIR"
}
trap clear_up EXIT
# By standard input: the words of a command can be read by everybody on a node.
python -c 'import secrets; print(secrets.token_hex(32), end="")' |
    on_all --input all dd status=none of="$RAY_AUTH_TOKEN_PATH"
on_all chmod 600 "$RAY_AUTH_TOKEN_PATH"

# Memory for Ray's objects is small: artifacts are files in the results.
options=(--block --disable-usage-stats --object-store-memory 200000000
    --min-worker-port 0 --max-worker-port 0 --dashboard-agent-listen-port 0)
srun --nodes 1 --ntasks 1 --cpus-per-task 1 --overlap --nodelist "$head" \
    ray start --head --node-ip-address "$address" --port "$port" --num-cpus 0 --num-gpus 0 \
    --ray-client-server-port "$((port + 1))" --include-dashboard false "${options[@]}" &
until ray health-check --address "$address:$port" 2> /dev/null; do sleep 2; done
on_all --cpus-per-task "$SLURM_CPUS_PER_TASK" \
    ray start --address "$address:$port" --num-cpus "$SLURM_CPUS_PER_TASK" "${options[@]}" &

farm run "$@" --address "$address:$port" --wait-for-nodes 5m
