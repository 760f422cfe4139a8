# Programs that run in the background, for the scripts that source this file.
#
# Each has a folder, $processes/<name>, with its log, its process id in pid and,
# in started, when that process began: an id that the system used again is never
# taken for the program. $processes_of begins what fail says, $processes_wait is
# how many seconds a program has until it must be ready.
# shellcheck shell=bash

fail() {
	echo "${processes_of:?}: $*" >&2
	exit 1
}

# start_time PID prints when the process began, in a form that only serves to
# compare; nothing when there is no such process.
start_time() {
	if [[ -r /proc/self/stat ]]; then
		# The second field may hold spaces and brackets: cut behind the last one.
		sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20
	else
		ps -o lstart= -p "$1" 2>/dev/null
	fi
}

# is_zombie PID: it ended, and nobody has asked for its result yet. While other
# threads than the first still end, its ports are not free.
is_zombie() {
	local tasks
	[[ -r /proc/self/stat ]] || return 1
	tasks=("/proc/$1/task"/*)
	((${#tasks[@]} == 1)) && [[ $(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 1) == Z ]]
}

# running NAME: the process of the pid file lives, and it is the one that was
# started.
running() {
	local pid began
	read -r pid 2>/dev/null <"${processes:?}/$1/pid" || return 1
	read -r began 2>/dev/null <"$processes/$1/started" || return 1
	[[ -n $pid && -n $began && $(start_time "$pid") == "$began" ]] && ! is_zombie "$pid"
}

# start NAME COMMAND... runs a program of its own session, with its output at the
# end of the log.
start() {
	local folder=$processes/$1 pid
	shift
	if command -v setsid >/dev/null; then
		set -- setsid "$@"
	fi
	nohup "$@" >>"$folder/log" 2>&1 </dev/null &
	pid=$!
	start_time "$pid" >"$folder/started" || true # it may have ended: await says so
	echo "$pid" >"$folder/pid"
}

# await NAME COMMAND... tries the command until it succeeds. A program that dies
# ends the wait at once, with the end of its log.
await() {
	local name=$1 folder=$processes/$1 end=$((SECONDS + ${processes_wait:?}))
	shift
	until "$@" >/dev/null 2>&1; do
		if ! running "$name"; then
			tail -n 20 "$folder/log" >&2
			fail "$name died while it started; its log is $folder/log"
		fi
		((SECONDS < end)) || fail "$name was not ready after $processes_wait s; its log is $folder/log"
		sleep 0.1
	done
}

# logged LOG FROM TEXT: the log holds the text behind its first FROM bytes. grep
# reads to the end: with -q it would end before tail does, whose failure would be
# that of the whole.
logged() { tail -c "+$(($2 + 1))" "$1" | grep -F -- "$3" >/dev/null; }

log_size() { if [[ -f $1 ]]; then wc -c <"$1"; else echo 0; fi; }

# listening PORT [ADDRESS]: something accepts connections there.
listening() { (exec 3<>"/dev/tcp/${2:-127.0.0.1}/$1") 2>/dev/null; }

# free NAME PORT VARIABLE [ADDRESS] refuses a port that something else uses.
free() {
	! listening "$2" "${4:-127.0.0.1}" || fail "$1 wants port $2, which is in use: stop what uses it, or set $3"
}

# stop NAME [GRACEFUL] ends a program. The fast way is SIGKILL, which what was
# written survives; graceful asks first, and waits for a minute.
stop() {
	local pid limit=0 i how=stopped
	if running "$1"; then
		read -r pid <"$processes/$1/pid"
		if [[ -n ${2:-} ]]; then
			limit=600
			kill "$pid" 2>/dev/null || true
		fi
		for ((i = 0; i < limit; i++)); do
			running "$1" || break
			sleep 0.1
		done
		while running "$1"; do
			((limit == 0)) || how="did not end in time, and was killed"
			kill -9 "$pid" 2>/dev/null || true
			sleep 0.02
		done
		echo "$1 $how"
	fi
	rm -f "$processes/$1/pid" "$processes/$1/started"
}

# follow_owner PID FOLDER COMMAND... runs the command when a process ends, unless
# the folder is gone by then: a test that is killed cannot clean up, and what it
# started goes with it.
follow_owner() {
	setsid bash -c 'tail --pid="$1" -f /dev/null; [[ ! -d $2 ]] || exec "${@:3}"' _ "$@" >/dev/null 2>&1 </dev/null &
}
