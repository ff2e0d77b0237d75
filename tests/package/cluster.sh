#!/bin/sh
# tools/cluster: comes up, serves all slots, and leaves nothing behind.   cluster.sh SOURCE WORK
set -eu
src=$1 work=$2/cluster
dir=$(mktemp -d)/c # a socket's path is short
export LC_ALL=C
passed=0 failed=0
mkdir -p "$work"
trap '"$src/tools/cluster" down --dir "$dir" >/dev/null 2>&1 || :; rmdir "${dir%/c}" 2>/dev/null || :' EXIT

check() { # check "what must hold" command...
  what=$1
  shift
  if "$@" >"$work/output" 2>&1; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    printf 'FAILED: %s\n' "$what"
    cat "$work/output"
  fi
}

up() { "$src/tools/cluster" up --dir "$dir" "$@" >"$work/url"; }
refuses() { ! "$@"; }
ask() { redis-cli -s "$dir/0/socket" "$@"; }
alive() { while read -r number pid port; do kill -0 "$pid" || return 1; done <"$work/nodes"; }
ended() {
  while read -r number pid port; do
    case $(ps -o stat= -p "$pid") in '' | Z*) ;; *) return 1 ;; esac
  done <"$work/nodes"
}

for nodes in 3 6; do
  check "$nodes nodes come up" up --nodes $nodes
  cp "$dir/nodes" "$work/nodes"
  check "the URL names $nodes nodes" grep -qE "^redis\\+cluster://(127\\.0\\.0\\.1:[0-9]+,?){$nodes}\$" "$work/url"
  check "all slots are served" sh -c "redis-cli -s '$dir/0/socket' CLUSTER INFO | grep -q 'cluster_slots_ok:16384'"
  check "three are primaries" [ "$(ask CLUSTER NODES | grep -c master)" -eq 3 ]
  check "the others are replicas" [ "$(ask CLUSTER NODES | grep -c slave)" -eq $((nodes - 3)) ]
  check "a second one in the same folder is refused" refuses up
  check "which does not end the first one" alive
  check "it goes down" "$src/tools/cluster" down --dir "$dir"
  check "its processes have ended" ended
  check "its folder is gone" [ ! -e "$dir" ]
done
check "what is not up cannot go down" refuses "$src/tools/cluster" down --dir "$dir"
mkdir "$dir"
touch "$dir/mine"
check "a folder with other things in it is refused" refuses up
check "and they are still there" [ -e "$dir/mine" ]
rm -r "$dir"
check "a program that is no server is named" sh -c "'$src/tools/cluster' up --dir '$dir' --server /bin/true 2>&1 | grep -q '/bin/true does not start'"
check "of which nothing is left" [ ! -e "$dir" ]
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
