#!/usr/bin/env bash
# Trains the R repetitions of a config in parallel: one tmux window each, or plain background
# processes if tmux is missing.
#
#   ./train.sh CONFIG [R] [GPUS]
#
# CONFIG  a config whose recipe is "repetitions", e.g. configs/mach_amazon670k.json
# R       how many repetitions (default: the config's; a larger number is refused)
# GPUS    comma-separated GPU numbers, two repetitions on each, e.g. 0,1 (default: the CPU)
#
# Environment: JOBS   repetitions at a time (default: as many as memory and cores or GPUs allow)
#              PYTHON Python to use (default: .venv/bin/python if there is one, else python3)
#              OPTIONS more options for tfxc train, e.g. OPTIONS='--set training.epochs=2'
#
# Repeat the command after a failure or a kill: finished repetitions are skipped, the others
# resume from their last checkpoint. Ctrl-C: each repetition saves before it ends. One
# repetition alone:
#   python -m tfxc.train --config CONFIG --repetition 3
set -uo pipefail

usage() { sed -n '2,/^set /p' "$0" | sed '$d; s/^# \{0,1\}//'; }
wrong() { echo "train.sh: $1" >&2; exit 2; }
is_number() { [[ $1 =~ ^[1-9][0-9]*$ ]]; }

case "${1:-}" in -h | --help) usage; exit 0 ;; "") usage >&2; exit 2 ;; esac
[ $# -le 3 ] || wrong "at most CONFIG, R and GPUS expected, found '$4' after them"

root=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-$([ -x "$root/.venv/bin/python" ] && echo "$root/.venv/bin/python" || echo python3)}
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
config=$1
[ -z "${2:-}" ] || is_number "$2" || wrong "R must be a number from 1 on, found '$2'"
[ -z "${JOBS:-}" ] || is_number "$JOBS" || wrong "JOBS must be a number from 1 on, found '$JOBS'"
[[ ${3:-} =~ ^([0-9]+(,[0-9]+)*)?$ ]] || wrong "GPUS must be numbers like 0,1, found '$3'"
read -ra options <<<"${OPTIONS:-}"
IFS=, read -ra gpus <<<"${3:-}"

# Prepares the data once, checks the config, and says how many repetitions there are and how many
# fit at a time.
plan=$("$python" "$root/tools/plan_repetitions.py" --config "$config" \
    ${options[@]+"${options[@]}"}) || exit $?
read -r total fit run <<<"$(tail -n 1 <<<"$plan")"
count=${2:-$total}
[ "$count" -le "$total" ] ||
    wrong "R must be a number from 1 to $total (the config's repetitions), found '$count'"
[ ${#gpus[@]} -gt 0 ] && fit=$((2 * ${#gpus[@]}))
jobs=${JOBS:-$fit}
[ "$jobs" -gt "$count" ] && jobs=$count
threads=$((($(nproc 2>/dev/null || echo 2) + jobs - 1) / jobs))

use_tmux=false
command -v tmux >/dev/null && use_tmux=true
# A server of its own passes our environment on; one that runs already has its own.
own_tmux() { tmux -L "tfxc-$$" "$@"; }
echo "training $count repetitions into $run, $jobs at a time, logs $run/repetition-*.log"
$use_tmux && echo "watch them: tmux -L tfxc-$$ attach"

# One train.sh at a time: the files of process ids and exit codes are this one's.
if command -v flock >/dev/null; then
    exec 9>"$run/.train.sh.lock"
    flock -n 9 || wrong "another train.sh, or repetitions it has left running, write into $run"
    trap 'rm -f "$run/.train.sh.lock"' EXIT
fi

declare -A running=() told=() codes=()
file_of() { printf '%s/.repetition-%02d.%s' "$run" "$1" "$2"; }

start() { # start REPETITION: runs it, output in its log, process id and exit code in files
    local r=$1 name; name=$(printf 'repetition-%02d' "$1")
    local code pid log="$run/$name.log"; code=$(file_of "$r" exit); pid=$(file_of "$r" pid)
    local command=("$python" -m tfxc.train --config "$config" ${options[@]+"${options[@]}"} --repetition "$r")
    if [ ${#gpus[@]} -gt 0 ]; then
        command+=(--gpu "${gpus[$((r % ${#gpus[@]}))]}" --gpu_usage 0.45)
    fi
    rm -f "$code" "$pid"
    local line quoted; printf -v quoted '%q ' "${command[@]}"
    line="export OMP_NUM_THREADS=$threads TF_NUM_INTRAOP_THREADS=$threads TF_NUM_INTEROP_THREADS=$threads;"
    # exec keeps the process id; tee -i outlives a Ctrl-C so that the last lines arrive.
    line+=" (echo \$BASHPID >$(printf %q "$pid"); exec $quoted) 2>&1 | tee -ia $(printf %q "$log");"
    line+=" echo \${PIPESTATUS[0]} >$(printf %q "$code.new"); mv $(printf %q "$code.new") $(printf %q "$code")"
    running[$r]=tmux
    if $use_tmux; then
        local window=(-d -n "$name" -c "$PWD" bash -c "$line")
        own_tmux new-window "${window[@]}" 2>/dev/null || own_tmux new-session "${window[@]}"
    else
        # A process group of its own: Ctrl-C reaches it once, from stop. A second signal would end
        # a repetition before it has saved.
        set -m; bash -c "$line" </dev/null >/dev/null & running[$r]=$!; set +m
    fi
}

is_gone() { # is_gone REPETITION: ended without an exit code, e.g. its window was closed
    if $use_tmux; then
        ! own_tmux list-windows -a -F '#{window_name}' 2>/dev/null | grep -qx "$(printf repetition-%02d "$1")"
    else
        ! kill -0 "${running[$1]}" 2>/dev/null
    fi
}

collect() {
    local r code
    for r in "${!running[@]}"; do
        code=$(file_of "$r" exit)
        if [ ! -f "$code" ]; then
            is_gone "$r" || continue
            sleep 0.2; [ -f "$code" ] || echo killed >"$code"
        fi
        codes[$r]=$(cat "$code"); rm -f "$code" "$(file_of "$r" pid)"; unset "running[$r]"
        case "${codes[$r]}" in
        0) echo "repetition $r finished" ;;
        129 | 130 | 143) echo "repetition $r stopped" ;;
        *) echo "repetition $r FAILED (exit code ${codes[$r]})" ;;
        esac
    done
}

stop() { # stop EXIT_CODE: each repetition saves its state before it ends
    trap '' HUP; trap - INT TERM
    echo "stopping; each repetition saves first"
    local r pid
    while [ ${#running[@]} -gt 0 ]; do
        for r in "${!running[@]}"; do
            pid=$(file_of "$r" pid)
            [ -z "${told[$r]:-}" ] && [ -s "$pid" ] || continue
            told[$r]=yes; kill -TERM "$(cat "$pid")" 2>/dev/null
        done
        sleep 0.3; collect
    done
    echo "stopped; run the same command again to resume the repetitions"
    exit "$1"
}

trap 'stop 130' INT
trap 'stop 143' TERM
trap 'stop 129 >/dev/null 2>&1' HUP
next=0
while [ "$next" -lt "$count" ] || [ ${#running[@]} -gt 0 ]; do
    while [ "$next" -lt "$count" ] && [ ${#running[@]} -lt "$jobs" ]; do
        start "$next"; next=$((next + 1))
    done
    sleep 0.3; collect
done

failed=()
for ((r = 0; r < count; r++)); do [ "${codes[$r]}" = 0 ] || failed+=("$r"); done
if [ ${#failed[@]} -gt 0 ]; then
    echo "${#failed[@]} of $count repetitions failed: ${failed[*]}"
    for r in "${failed[@]}"; do printf '  log: %s/repetition-%02d.log\n' "$run" "$r"; done
    echo "run the same command again: finished ones are skipped, the others resume"
    exit 1
fi
if [ "$count" -lt "$total" ]; then
    echo "$count of the config's $total repetitions finished; the others: $0 $config"
else
    echo "all $count repetitions finished; next: $python -m tfxc evaluate --run $run"
fi
