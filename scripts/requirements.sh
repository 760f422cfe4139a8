#!/usr/bin/env bash
# Sees to the programs that the Makefile needs beside Go.
#
#   scripts/requirements.sh build   what building and linting need
#   scripts/requirements.sh test    what the tests need as well
#   scripts/requirements.sh redis kafka hbase etcd
#                                   what these servers need (scripts/stack)
#   scripts/requirements.sh deploy  what checks the folder deploy
#   scripts/requirements.sh python  what scripts/python.sh needs
#
# Root, and CI with sudo, install what is missing with the system's package
# manager. Everybody else is told the one command to type, and nothing goes on
# until it was typed: a test without its tools would prove nothing.
set -euo pipefail

build=(go git)
test=(gcc curl)
deploy=(promtool)
[[ $(uname) != Linux ]] || deploy+=(systemd-analyze)
if [[ $(id -u) == 0 && $(uname) == Linux ]]; then
	# File systems of their own for the power cut and the full disk.
	test+=(mkfs.ext4 mount losetup)
fi

wanted=()
for name in "${@:-}"; do
	case $name in
	build) wanted+=("${build[@]}") ;;
	test) wanted+=("${build[@]}" "${test[@]}") ;;
	redis) wanted+=(redis-server) ;;
	kafka | hbase) wanted+=(java mvn) ;;
	etcd) wanted+=(etcd curl) ;;
	deploy) wanted+=("${deploy[@]}") ;;
	python) wanted+=(python3 python3-venv) ;;
	*)
		echo "usage: $0 build | test | redis | kafka | hbase | etcd | deploy | python ..." >&2
		exit 2
		;;
	esac
done

PATH=$PATH:/usr/sbin:/sbin

# have PROGRAM: it is there. What makes virtual environments is a part of Python
# that some systems have in a package of its own.
have() {
	case $1 in
	python3-venv) python3 -c 'import ensurepip' 2>/dev/null ;;
	*) command -v "$1" >/dev/null ;;
	esac
}

missing=()
for program in "${wanted[@]}"; do
	have "$program" || [[ " ${missing[*]-} " == *" $program "* ]] || missing+=("$program")
done
((${#missing[@]})) || exit 0

if [[ " ${missing[*]} " == *" go "* ]]; then
	echo "Go is missing: https://go.dev/dl (go.mod says which version; 1.21 or later fetches it)" >&2
	exit 1
fi

# package MANAGER PROGRAM prints the package that has the program.
package() {
	case $1/$2 in
	apk/gcc) echo gcc musl-dev ;;
	*/mkfs.ext4) echo e2fsprogs ;;
	*/mount | */losetup) echo util-linux ;;
	apt-get/etcd) echo etcd-server ;;
	apt-get/java) echo default-jre-headless ;;
	dnf/java) echo java-latest-openjdk-headless ;;
	apk/java) echo openjdk17-jre-headless ;;
	pacman/java) echo jre-openjdk-headless ;;
	zypper/java) echo java-17-openjdk-headless ;;
	brew/java) echo openjdk ;;
	*/mvn) echo maven ;;
	dnf/promtool | zypper/promtool) echo golang-github-prometheus ;;
	*/promtool) echo prometheus ;;
	*/systemd-analyze) echo systemd ;;
	apt-get/python3-venv) echo python3-venv ;;
	*/python3-venv) echo python3 ;;
	apt-get/redis-server) echo redis-server ;;
	*/redis-server) echo redis ;;
	*) echo "$2" ;;
	esac
}

for manager in apt-get dnf apk pacman zypper brew; do
	command -v "$manager" >/dev/null && break
	manager=
done
if [[ -z $manager ]]; then
	echo "missing: ${missing[*]}; no package manager found to install them with" >&2
	exit 1
fi

packages=()
for program in "${missing[@]}"; do
	read -ra names < <(package "$manager" "$program")
	packages+=("${names[@]}")
done

case $manager in
apt-get) install="apt-get update -q && apt-get install -qy --no-install-recommends" ;;
dnf) install="dnf install -y" ;;
apk) install="apk add" ;;
pacman) install="pacman -S --noconfirm" ;;
zypper) install="zypper install -y" ;;
brew) install="brew install" ;;
esac
line="$install ${packages[*]}"

if [[ $(id -u) == 0 || $manager == brew && -n ${CI:-} ]]; then
	echo "installing: ${packages[*]}" >&2
	bash -c "$line" >&2
elif [[ -n ${CI:-} ]] && sudo -n true 2>/dev/null; then
	echo "installing: ${packages[*]}" >&2
	sudo bash -c "$line" >&2
else
	[[ $manager == brew ]] || line="sudo bash -c '$line'"
	printf 'missing: %s\ntype:    %s\n' "${missing[*]}" "$line" >&2
	exit 1
fi
