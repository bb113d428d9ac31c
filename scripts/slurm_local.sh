#!/usr/bin/env bash
# A one-node SLURM on this machine, for tests and trials: Debian's slurm-wlm and munge, no systemd needed.
#   scripts/slurm_local.sh up       install what is missing, start munged, slurmctld and slurmd
#   scripts/slurm_local.sh status   what runs, the node and the queue
#   scripts/slurm_local.sh down     stop all three; jobs end with them
# A job in the partition `urgent` preempts those in `local`, the default.
# Everything but munge's key lies in SLURM_LOCAL_DIR (default /var/tmp/slurm_local). Needs root.
set -euo pipefail

DIR=${SLURM_LOCAL_DIR:-/var/tmp/slurm_local}
export SLURM_CONF=$DIR/slurm.conf

say() { printf 'slurm_local: %s\n' "$*"; }
fail() { say "$*" >&2; exit 1; }

install_packages() {
  if command -v slurmctld >/dev/null && command -v slurmd >/dev/null && command -v munged >/dev/null; then return; fi
  say "installing slurm-wlm and munge"
  if ! { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq slurm-wlm munge >/dev/null; }; then
    say "Debian's packages slurm-wlm and munge are not to be had here" >&2
    exit 3
  fi
}

configure() {
  mkdir -p "$DIR/state" "$DIR/spool"
  local name cores memory
  name=$(hostname -s) cores=$(getconf _NPROCESSORS_ONLN)
  memory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)
  cat >"$SLURM_CONF" <<EOF
ClusterName=local
SlurmctldHost=$name(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
StateSaveLocation=$DIR/state
SlurmdSpoolDir=$DIR/spool
SlurmctldPidFile=$DIR/slurmctld.pid
SlurmdPidFile=$DIR/slurmd.pid
SlurmctldLogFile=$DIR/slurmctld.log
SlurmdLogFile=$DIR/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
JobRequeue=1
KillWait=5
MinJobAge=300
SlurmctldParameters=enable_configless
SchedulerParameters=sched_interval=5,bf_interval=5
MailProg=/bin/true
NodeName=$name NodeAddr=127.0.0.1 CPUs=$cores RealMemory=$memory State=UNKNOWN
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=local Nodes=$name Default=YES MaxTime=INFINITE PriorityTier=1 GraceTime=3 State=UP
PartitionName=urgent Nodes=$name MaxTime=INFINITE PriorityTier=2 State=UP
EOF
}

# Only what this script started counts: a machine may belong to a real cluster.
running() { [ -s "$DIR/$1.pid" ] && kill -0 "$(cat "$DIR/$1.pid")" 2>/dev/null; }

start_munge() {
  munge -n >/dev/null 2>&1 && return
  mkdir -p /run/munge /etc/munge /var/log/munge /var/lib/munge
  [ -s /etc/munge/munge.key ] || (umask 077 && head -c 1024 /dev/urandom >/etc/munge/munge.key)
  chown -R munge: /run/munge /etc/munge /var/log/munge /var/lib/munge
  chmod 755 /run/munge
  runuser -u munge -- munged
  cp /run/munge/munged.pid "$DIR/munged.pid"
}

wait_for() { # wait_for <seconds> <what> <command …>
  local seconds=$1 what=$2 i
  shift 2
  for ((i = 0; i < seconds * 5; i++)); do "$@" >/dev/null 2>&1 && return; sleep 0.2; done
  fail "$what did not come up in $seconds s; see $DIR/*.log"
}

node_ready() { [[ $(sinfo --noheader --format %T) =~ ^(idle|mixed|allocated) ]]; }

up() {
  [ "$(id -u)" = 0 ] || fail "needs root"
  install_packages
  running slurmctld || configure
  start_munge
  wait_for 10 munged munge -n
  running slurmctld || slurmctld
  wait_for 30 slurmctld scontrol ping
  running slurmd || slurmd
  wait_for 30 "the node" node_ready
  say "up: export SLURM_CONF=$SLURM_CONF"
}

down() {
  local name pid
  if running slurmctld; then scancel --full --quiet --user root 2>/dev/null || true; fi
  for name in slurmd slurmctld munged; do
    running "$name" || continue
    pid=$(cat "$DIR/$name.pid")
    kill "$pid"
    for _ in $(seq 50); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
    kill -9 "$pid" 2>/dev/null || true
  done
  rm -rf "$DIR"
  say down
}

status() {
  local name
  for name in munged slurmctld slurmd; do
    printf '%-10s %s\n' "$name" "$(running "$name" && echo running || echo stopped)"
  done
  if running slurmctld; then sinfo && squeue; fi
}

case ${1:-} in
  up | down | status) "$1" ;;
  *) sed -n '2,7s/^# //p' "$0"; exit 2 ;;
esac
