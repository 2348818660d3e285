#!/bin/bash
# Members of an ensemble as an array of jobs, then the rest of the run as one job.
#
#   sbatch docs/clusters/slurm_members.sh cifar10_vgg16 /shared/runs/cifar10_vgg16
#
# The workdir is on storage that all nodes see. A job that is preempted is told 60 seconds before, saves what it has, and
# goes on from there when it is queued again.
#SBATCH --job-name=members
#SBATCH --array=0-9
#SBATCH --cpus-per-task=4
#SBATCH --gpus-per-task=1
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@60
#SBATCH --requeue
#SBATCH --output=%x_%a.log
set -euo pipefail

experiment=$1
workdir=$2
each=${MEMBERS_EACH:-10} # ten jobs of ten members

first=$((SLURM_ARRAY_TASK_ID * each))
exec python main.py --experiment="$experiment" --workdir="$workdir" --stage=ensemble --members="$first:$((first + each))"

# Then, once all of them are there:
#   sbatch --dependency=singleton --job-name=members --wrap "python main.py --experiment=… --workdir=…"
