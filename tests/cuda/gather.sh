#!/usr/bin/env bash
# Gather what a bare machine with a CUDA build of torch needs into one folder: bash tests/cuda/gather.sh FOLDER 3.12
# (the Python there). The checkout is the last commit. There, without a network: bash FOLDER/run.sh
set -euo pipefail
[ $# -eq 2 ] || { echo "usage: bash tests/cuda/gather.sh FOLDER PYTHON, as in: gather.sh oracle 3.12" >&2; exit 2; }
folder=$(realpath -m "$1") python=$2
cd "$(dirname "$0")/../.."
[ ! -e "$folder" ] || { echo "$folder is there already: name a new folder" >&2; exit 2; }
own=$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)
mkdir -p "$folder"
git archive --prefix=checkout/ HEAD | tar x -C "$folder"
platforms=$(for n in 39 35 34 31 28 27 24 17; do echo "--platform manylinux_2_${n}_x86_64"; done)
$own -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' \
    > "$folder/requirements.txt"
# shellcheck disable=SC2086 # several words
$own -m pip download -q -d "$folder/wheels" -c constraints.txt -r "$folder/requirements.txt" --only-binary=:all: \
    --implementation cp --python-version "$python" $platforms --platform manylinux2014_x86_64
cat > "$folder/run.sh" <<'RUN'
#!/usr/bin/env bash
# bash run.sh [what python -m tests.cuda takes]: unpacks the wheels beside it, once, and runs.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
[ -d "$here/site" ] || python3 -m pip install -q --no-index --no-deps --no-compile --target "$here/site" "$here"/wheels/*.whl
out=${OUT:-$PWD/cuda-results}
cd "$here/checkout"
PYTHONUNBUFFERED=1 PYTHONPATH=$here/site:$here/checkout exec python3 -m tests.cuda --out "$out" "$@"
RUN
du -sh "$folder"
echo "on the machine: bash $(basename "$folder")/run.sh"
