#!/usr/bin/env bash
# What infra/ must pass: no word from compiler, linter and formatter; the predicted resources held against the code; checkov.
# The compiler is $BICEP, else `bicep` on PATH. checkov gets an environment of its own, since its pins clash with ours.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}

if ! command -v "${BICEP:-bicep}" >/dev/null; then
  echo "NOT RUN: no Bicep compiler, so nothing of infra/ was checked; set BICEP or put bicep on PATH" >&2
  [ "${CI:-}" != true ]
  exit
fi

if ! cmp -s requirements-checkov.txt .venv-checkov/installed; then
  "$python" -m venv --clear .venv-checkov
  .venv-checkov/bin/python -m pip install --quiet --require-hashes --requirement requirements-checkov.txt
  cp requirements-checkov.txt .venv-checkov/installed
fi

exec "$python" -m pytest tests/infra
