#!/usr/bin/env bash
# What this project does on the GPU of this machine, in eight minutes and without a network: docs/tpu.md says what it measures.
#   benchmarks/device.sh --output=FOLDER --data=FACADES [--references=DIR --wheels=DIR --minutes=8 --rehearse]
# --wheels: a folder of wheels of packages that the machine lacks; they are installed into a temporary folder.
set -euo pipefail
cd "$(dirname "$0")/.."
arguments=()
for argument in "$@"; do
    case $argument in
        --wheels=*) wheels=${argument#*=} ;;
        *) arguments+=("$argument") ;;
    esac
done
if [[ -n ${wheels:-} ]]; then
    site=$(mktemp -d)
    trap 'rm -rf "$site"' EXIT
    python3 -m pip install --quiet --no-index --no-deps --no-compile --target "$site" "$wheels"/*.whl
    export PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH}
fi
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
python3 benchmarks/device.py "${arguments[@]}"
