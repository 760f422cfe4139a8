#!/usr/bin/env bash
# Prints the path of a Python that has the packages of a requirements file: a
# virtual environment in the user's cache, made at the first call. Only the path
# goes to standard output.
#
#   scripts/python.sh test/events/requirements.txt
set -euo pipefail

requirements=$1
"$(dirname "$0")/requirements.sh" python

# Another list of packages is another environment.
sum=$(sha256sum "$requirements" | cut -c 1-12)
folder=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/tegami/python-$sum
if [[ ! -f $folder/complete ]]; then
	# Two suites may come at once: the second waits for the first.
	mkdir -p "$(dirname "$folder")"
	exec 9>"$folder.lock"
	flock 9
	if [[ ! -f $folder/complete ]]; then
		rm -rf "$folder"
		python3 -m venv "$folder" >&2
		"$folder/bin/pip" install --disable-pip-version-check --quiet --requirement "$requirements" >&2
		touch "$folder/complete"
	fi
fi
echo "$folder/bin/python"
