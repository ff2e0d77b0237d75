# To be sourced: apt for another suite than this system's, from the mirror that it uses anyway, without touching its sources.
#
#   private_apt_begin WORK deb|deb-src SUITE [KEYRING]   lays out WORK and reads the suite's lists; 1 when that cannot be done
#   private_apt WORK get|cache ARGUMENTS...              apt-get or apt-cache with them

private_apt_mirror() {
  apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Codename: $(. /etc/os-release; echo "${VERSION_CODENAME:-}")" |
    sort -u | head -n 1
}

private_apt() {
  private_work=$1 private_tool=$2
  shift 2
  "apt-$private_tool" -qq -o "Dir::Etc::sourcelist=$private_work/sources.list" -o Dir::Etc::sourceparts=/dev/null \
    -o "Dir::State::lists=$private_work/lists" -o "Dir::Cache=$private_work/cache" -o APT::Sandbox::User=root \
    -o Acquire::Languages=none -o Acquire::Check-Valid-Until=false "$@" # a mirror may be a snapshot; it is signed all the same
}

private_apt_begin() {
  mirror=$(private_apt_mirror)
  if [ -z "$mirror" ]; then
    if [ "$(id -u)" -eq 0 ]; then apt-get -qq update; elif command -v sudo >/dev/null; then sudo apt-get -qq update; fi
    mirror=$(private_apt_mirror)
  fi
  [ -n "$mirror" ] || { echo "apt knows no mirror of this system" >&2; return 1; }
  mkdir -p "$1/lists/partial" "$1/cache/archives/partial"
  echo "$2 [signed-by=${4:-/usr/share/keyrings/debian-archive-keyring.gpg}] $mirror $3 main" >"$1/sources.list"
  private_apt "$1" get update
}
