#!/usr/bin/env bash
# Trains the R repetitions of a config in parallel: one tmux window each, or plain background
# processes where tmux is missing.
#
#   ./train.sh CONFIG [R] [GPUS]
#
# CONFIG  a config whose recipe is "repetitions", e.g. configs/mach_amazon670k.json
# R       how many repetitions (default: the config's; a larger number is refused)
# GPUS    comma-separated GPU numbers, two repetitions on each, e.g. 0,1 (default: the CPU)
#
# Environment: JOBS   repetitions at a time (default: as many as memory and cores or GPUs hold)
#              PYTHON Python to use (default: .venv/bin/python if there is one, else python3)
#              OPTIONS more options for tfxc.train, e.g. OPTIONS='--set training.epochs=2'
#
# Give the same command again after a failure or a kill: finished repetitions are skipped, the
# others go on from their last checkpoint. One repetition alone:
#   python -m tfxc.train --config CONFIG --repetition 3
set -uo pipefail

usage() { sed -n '2,/^set /p' "$0" | sed '$d; s/^# \{0,1\}//'; }
case "${1:-}" in -h | --help) usage; exit 0 ;; "") usage >&2; exit 2 ;; esac

cd_root=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-$([ -x "$cd_root/.venv/bin/python" ] && echo "$cd_root/.venv/bin/python" || echo python3)}
config=$1
read -ra options <<<"${OPTIONS:-}"
IFS=, read -ra gpus <<<"${3:-}"

# Prepares the data once, checks the config, and says how many repetitions there are and how many
# fit at a time.
plan=$("$python" "$cd_root/tools/plan_repetitions.py" --config "$config" \
    ${options[@]+"${options[@]}"}) || exit $?
read -r total fit run <<<"$(tail -n 1 <<<"$plan")"
count=${2:-$total}
if ! [[ $count =~ ^[1-9][0-9]*$ ]] || [ "$count" -gt "$total" ]; then
    echo "train.sh: R must be a number from 1 to $total (the config's repetitions), found '$count'" >&2
    exit 2
fi
[ ${#gpus[@]} -gt 0 ] && fit=$((2 * ${#gpus[@]}))
jobs=${JOBS:-$fit}
[ "$jobs" -gt "$count" ] && jobs=$count
threads=$(( ($(nproc 2>/dev/null || echo 2) + jobs - 1) / jobs ))
mkdir -p "$run"

session="tfxc-$$"
use_tmux=false
command -v tmux >/dev/null && use_tmux=true
echo "training $count repetitions into $run, $jobs at a time, logs $run/repetition-*.log"
$use_tmux && echo "watch them: tmux attach -t $session"

start() { # start REPETITION: runs it, its output in its log, its exit code in a file
    local r=$1 name; name=$(printf 'repetition-%02d' "$1")
    local code="$run/.$name.exit" log="$run/$name.log"
    local command=("$python" -m tfxc.train --config "$config" ${options[@]+"${options[@]}"} --repetition "$r")
    if [ ${#gpus[@]} -gt 0 ]; then
        command+=(--gpu "${gpus[$((r % ${#gpus[@]}))]}" --gpu_usage 0.45)
    fi
    rm -f "$code"
    local line
    line="OMP_NUM_THREADS=$threads TF_NUM_INTRAOP_THREADS=$threads TF_NUM_INTEROP_THREADS=$threads"
    line+=" $(printf '%q ' "${command[@]}") 2>&1 | tee -a $(printf %q "$log")"
    line+="; echo \${PIPESTATUS[0]} >$(printf %q "$code.new"); mv $(printf %q "$code.new") $(printf %q "$code")"
    if $use_tmux; then
        local where=(new-window -d -t "$session:")
        tmux has-session -t "$session" 2>/dev/null || where=(new-session -d -s "$session")
        tmux "${where[@]}" -n "$name" -c "$PWD" "exec bash -c $(printf %q "$line")"
    else
        bash -c "$line" >/dev/null &
    fi
}

stop() { # Ctrl-C: each repetition saves its state before it ends
    echo "stopping; each repetition saves first"
    for r in "${!running[@]}"; do
        pkill -TERM -f -- "tfxc.train --config $config .*--repetition $r( |$)" 2>/dev/null
    done
    while [ ${#running[@]} -gt 0 ]; do collect; sleep 0.3; done
    exit 130
}

declare -A running=() codes=()
collect() {
    for r in "${!running[@]}"; do
        local file; file=$(printf '%s/.repetition-%02d.exit' "$run" "$r")
        [ -f "$file" ] || continue
        codes[$r]=$(cat "$file"); rm -f "$file"; unset "running[$r]"
        if [ "${codes[$r]}" = 0 ]; then echo "repetition $r finished"; else echo "repetition $r FAILED (exit code ${codes[$r]})"; fi
    done
}

trap stop INT TERM
next=0
while [ "$next" -lt "$count" ] || [ ${#running[@]} -gt 0 ]; do
    while [ "$next" -lt "$count" ] && [ ${#running[@]} -lt "$jobs" ]; do
        start "$next"; running[$next]=1; next=$((next + 1))
    done
    sleep 0.3; collect
    # A window that was killed leaves no exit code behind.
    if $use_tmux && [ ${#running[@]} -gt 0 ]; then
        windows=$(tmux list-windows -t "$session" -F '#{window_name}' 2>/dev/null)
        for r in "${!running[@]}"; do
            name=$(printf 'repetition-%02d' "$r")
            if ! grep -qx "$name" <<<"$windows" && [ ! -f "$run/.$name.exit" ]; then
                sleep 0.2; [ -f "$run/.$name.exit" ] || echo killed >"$run/.$name.exit"
            fi
        done
    fi
done

failed=()
for ((r = 0; r < count; r++)); do [ "${codes[$r]}" = 0 ] || failed+=("$r"); done
if [ ${#failed[@]} -gt 0 ]; then
    echo "${#failed[@]} of $count repetitions failed: ${failed[*]}"
    for r in "${failed[@]}"; do printf '  log: %s/repetition-%02d.log\n' "$run" "$r"; done
    echo "give the same command again: finished ones are skipped, the others go on"
    exit 1
fi
echo "all $count repetitions finished; next: $python -m tfxc.evaluate --run $run"
