#!/bin/bash
# Members of an ensemble as an array of jobs, then the rest of the run as one job.
#
#   sbatch docs/clusters/slurm_members.sh cifar10_vgg16 /shared/runs/cifar10_vgg16 --data_dir=/shared/data
#
# Workdir and data are on storage that all nodes see; what follows them is given to main.py. A job is told 60 seconds before
# it is preempted or its time is over, and saves what it has. Slurm queues it again after a preemption; after a time limit
# submit the array again, and it goes on.
#SBATCH --job-name=members
#SBATCH --array=0-9
#SBATCH --cpus-per-task=4
#SBATCH --gpus-per-task=1
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@60
#SBATCH --requeue
#SBATCH --output=%x_%a.log
set -euo pipefail

experiment=$1
workdir=$2
shift 2
each=${MEMBERS_EACH:-10} # ten jobs of ten members

first=$((SLURM_ARRAY_TASK_ID * each))
exec python main.py --experiment="$experiment" --workdir="$workdir" --stage=ensemble \
    --members="$first:$((first + each))" "$@"

# Then, once all of them are there:
#   sbatch --dependency=singleton --job-name=members --wrap "python main.py --experiment=… --workdir=… --data_dir=…"
