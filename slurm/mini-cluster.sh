#!/usr/bin/env bash
# A real Slurm on this one machine, for trials and tests: two nodes with four pretended GPUs each, accounting, preemption.
#
#   slurm/mini-cluster.sh install        Debian's packages, as root, once
#   slurm/mini-cluster.sh start          start what does not run yet
#   slurm/mini-cluster.sh env            lines for eval: with them sbatch, squeue and sacct speak to it
#   slurm/mini-cluster.sh status         nodes and jobs
#   slurm/mini-cluster.sh stop           end all of it; jobs that run are lost
#   slurm/mini-cluster.sh daemon NAME    start one daemon again: munged mariadbd slurmdbd slurmctld node1 node2
#   slurm/mini-cluster.sh kill NAME      kill one daemon (-9), as a crash would
#   slurm/mini-cluster.sh restart NAME   end one daemon in order, and start it again
#
# Everything lies in one private folder, with its own ports, key and database; nothing of the system's configuration is read
# or written. The folder's name has to be short (Unix sockets) and readable by all.
set -euo pipefail

FOLDER=${MINI_CLUSTER_FOLDER:-/tmp/bccdist-slurm}
PORT=${MINI_CLUSTER_PORT:-17810} # the controller's; the next ones are the other daemons'
NODES=2 GPUS=4 CPUS=4
GRACE_S=${MINI_CLUSTER_GRACE_S:-10}   # between the announcement of a preemption and its execution
CONTROLLER_OPTIONS=${MINI_CLUSTER_CONTROLLER_OPTIONS-preempt_send_user_signal}
SOCKET=$FOLDER/munge/socket
export SLURM_CONF=$FOLDER/slurm.conf
export PATH=$PATH:/usr/sbin:/sbin

fail() {
  echo "mini-cluster: $*" >&2
  exit 1
}

install() {
  [ "$(id -u)" = 0 ] || fail "installing packages takes root: run this as root, or ask for slurm-wlm slurmdbd munge mariadb-server"
  command -v apt-get >/dev/null || fail "apt-get is not there: this script knows Debian's packages only"
  have_packages && return
  # Debian starts services of new packages; a policy that says 101 keeps the system's own daemons off.
  local policy=/usr/sbin/policy-rc.d own_policy=0
  if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy && own_policy=1
  fi
  local log status=0
  log=$(mktemp)
  { apt-get update --quiet && DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends \
    slurm-wlm slurmdbd munge mariadb-server; } >"$log" 2>&1 || status=$?
  [ $own_policy = 0 ] || rm -f $policy
  [ $status = 0 ] || fail "apt-get failed ($status): $(tail -n 5 "$log")"
  rm -f "$log"
}

have_packages() {
  local command
  for command in slurmctld slurmd slurmdbd munged mariadbd sbatch sacct; do
    command -v $command >/dev/null || return 1
  done
}

# Repeats a command until it works; 30 s at most.
until_it_works() {
  local deadline=$((SECONDS + 30))
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $deadline ] || fail "this did not work within 30 s: $*; see $FOLDER/log"
    sleep 0.05
  done
}

is_alive() {
  local pid
  pid=$(cat "$FOLDER/run/$1.pid" 2>/dev/null) && kill -0 "$pid" 2>/dev/null
}

write_configuration() {
  local host number gpu
  host=$(hostname -s)
  mkdir -p "$FOLDER"/{log,run,state,munge,gpus}
  chmod 711 "$FOLDER/munge"
  # The resource plugin wants a device file for each GPU; a link to one that every machine has is enough.
  for gpu in $(seq 0 $((GPUS - 1))); do ln -sfn /dev/null "$FOLDER/gpus/gpu$gpu"; done
  if [ ! -s "$FOLDER/munge/key" ]; then
    (umask 077 && head -c 1024 /dev/urandom >"$FOLDER/munge/key")
  fi
  cat >"$FOLDER/slurm.conf" <<EOF
ClusterName=mini
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$PORT
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$SOCKET,cred_expire=5
CredType=cred/munge
StateSaveLocation=$FOLDER/state
SlurmdSpoolDir=$FOLDER/spool.%n
SlurmctldPidFile=$FOLDER/run/slurmctld.pid
SlurmdPidFile=$FOLDER/run/%n.pid
SlurmctldLogFile=$FOLDER/log/slurmctld.log
SlurmdLogFile=$FOLDER/log/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
PropagateResourceLimits=NONE
ReturnToService=2
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
GresTypes=gpu
MaxArraySize=1001
MaxJobCount=10000
# Everything that a site counts in minutes is counted in seconds here.
KillWait=2
SlurmctldTimeout=10
SlurmdTimeout=15
BatchStartTimeout=10
MessageTimeout=10
MinJobAge=300
InactiveLimit=0
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,sched_min_interval=0,bf_interval=2,batch_sched_delay=0,requeue_delay=1
PriorityType=priority/basic
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
${CONTROLLER_OPTIONS:+SlurmctldParameters=$CONTROLLER_OPTIONS}
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$((PORT + 1))
AccountingStoragePass=$SOCKET
AccountingStoreFlags=job_comment
AccountingStorageTRES=gres/gpu
$(for number in $(seq $NODES); do
    echo "NodeName=node$number NodeHostname=$host NodeAddr=127.0.0.1 Port=$((PORT + 2 + number)) CPUs=$CPUS RealMemory=64000 Gres=gpu:$GPUS"
  done)
PartitionName=gpu Nodes=ALL Default=YES PriorityTier=100 PreemptMode=OFF DefMemPerCPU=100
PartitionName=cpu Nodes=ALL PriorityTier=100 PreemptMode=OFF DefMemPerCPU=100
PartitionName=scavenge Nodes=ALL PriorityTier=1 PreemptMode=REQUEUE GraceTime=$GRACE_S DefMemPerCPU=100
EOF
  echo "NodeName=node[1-$NODES] Name=gpu File=$FOLDER/gpus/gpu[0-$((GPUS - 1))]" >"$FOLDER/gres.conf"
  (umask 077 && cat >"$FOLDER/slurmdbd.conf") <<EOF
AuthType=auth/munge
AuthInfo=socket=$SOCKET
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=$((PORT + 1))
SlurmUser=$(id -un)
LogFile=$FOLDER/log/slurmdbd.log
PidFile=$FOLDER/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$((PORT + 2))
StorageUser=slurm
StoragePass=slurm
StorageLoc=accounting
CommitDelay=1
EOF
}

make_database() {
  [ -d "$FOLDER/database/mysql" ] && return
  mariadb-install-db --no-defaults --datadir="$FOLDER/database" --user="$(id -un)" --skip-test-db --skip-name-resolve \
    --auth-root-authentication-method=normal --innodb-log-file-size=16M >"$FOLDER/log/database.log" 2>&1 ||
    fail "the database could not be made: $(tail -n 3 "$FOLDER/log/database.log")"
  # One statement a line: two on one are a syntax error there.
  printf '%s\n' "CREATE USER IF NOT EXISTS 'slurm'@'%' IDENTIFIED BY 'slurm';" "GRANT ALL ON accounting.* TO 'slurm'@'%';" \
    >"$FOLDER/database.sql"
}

daemon() {
  is_alive "$1" && return
  case $1 in
    munged)
      munged --force --key-file="$FOLDER/munge/key" --socket="$SOCKET" --pid-file="$FOLDER/run/munged.pid" \
        --log-file="$FOLDER/log/munged.log" --seed-file="$FOLDER/munge/seed" 2>"$FOLDER/log/munged.start"
      until_it_works munge --no-input --socket="$SOCKET" ;;
    mariadbd)
      setsid mariadbd --no-defaults --datadir="$FOLDER/database" --user="$(id -un)" --bind-address=127.0.0.1 \
        --port=$((PORT + 2)) --socket="$FOLDER/run/mariadb.socket" --pid-file="$FOLDER/run/mariadbd.pid" \
        --log-error="$FOLDER/log/mariadbd.log" --init-file="$FOLDER/database.sql" --skip-name-resolve --skip-log-bin \
        --innodb-buffer-pool-size=64M --innodb-log-file-size=16M --innodb-lock-wait-timeout=900 \
        --innodb-flush-log-at-trx-commit=0 </dev/null >/dev/null 2>&1 &
      until_it_works bash -c ": 3<>/dev/tcp/127.0.0.1/$((PORT + 2))" ;;
    slurmdbd)
      slurmdbd
      until_it_works sacctmgr --noheader show cluster
      sacctmgr --immediate add cluster mini >/dev/null 2>&1 || true ;;
    slurmctld) slurmctld -f "$SLURM_CONF" ;;
    node[12])
      mkdir -p "$FOLDER/spool.$1"
      slurmd -f "$SLURM_CONF" -N "$1" ;;
    *) fail "no daemon $1; known: munged mariadbd slurmdbd slurmctld node1 node2" ;;
  esac
}

start() {
  have_packages || fail "Slurm, munge or MariaDB is missing: slurm/mini-cluster.sh install"
  [ ${#FOLDER} -le 60 ] || fail "$FOLDER is too long a name for Unix sockets; set MINI_CLUSTER_FOLDER"
  umask 022
  mkdir -p "$FOLDER"
  is_alive slurmctld || write_configuration
  make_database
  local name
  for name in munged mariadbd slurmdbd slurmctld node1 node2; do daemon $name; done
  until_it_works all_nodes_are_up
}

all_nodes_are_up() {
  [ "$(sinfo --noheader --Node --partition=gpu --states=idle,mixed,allocated --format=%N | sort -u | wc -l)" = $NODES ]
}

end() {
  local name=$1 signal=$2 pid
  is_alive "$name" || return 0
  pid=$(cat "$FOLDER/run/$name.pid")
  kill "-$signal" "$pid"
  for _ in $(seq 200); do
    kill -0 "$pid" 2>/dev/null || return 0
    sleep 0.05
  done
  fail "$name (process $pid) does not end"
}

stop() {
  if is_alive slurmctld; then
    scancel --user="$(id -un)" 2>/dev/null || true
    for _ in $(seq 60); do
      [ -n "$(squeue --noheader 2>/dev/null)" ] || break
      sleep 0.1
    done
  fi
  local name
  for name in node1 node2 slurmctld slurmdbd mariadbd munged; do end $name TERM; done
}

case ${1:-} in
  install | start | stop) "$1" ;;
  daemon) daemon "${2:?name a daemon}" ;;
  kill) end "${2:?name a daemon}" KILL ;;
  restart) end "${2:?name a daemon}" TERM && daemon "$2" ;;
  status) sinfo && squeue ;;
  env) echo "export SLURM_CONF=$SLURM_CONF PATH=\"\$PATH:/usr/sbin\"" ;;
  *) sed -n '3,11s/^# \{0,3\}//p' "$0" >&2 && exit 2 ;;
esac
