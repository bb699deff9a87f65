#!/usr/bin/env bash
# Hub and service on a fresh Debian or Ubuntu machine with a Xeon or EPYC processor. Run again, it changes only what changed.
#
#   sudo deploy/xeon.sh --task digits                  # everything: packages, /opt/kuberml, two services of systemd
#   deploy/xeon.sh --task digits --dry-run             # say what it would do, do nothing
#   deploy/xeon.sh --task digits --prefix ~/kuberml    # without root: a folder of your own, and user services
#
#   --task NAME     what the served model is about
#   --hub ADDRESS   a hub elsewhere instead of one here (host:port)
#   --extras LIST   of kuberml; default torch,onnx,openvino
#   --from WHAT     what pip installs: a folder with the source, a wheel, or a name and version; default this repository
#   --no-install    leave the Python environment as it is
#   --no-start      write the units and do not start them
set -euo pipefail

task="" hub="" extras="torch,onnx,openvino" prefix="" dry=0 install=1 start=1
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
from="$(dirname "$here")"
torch_index="https://download.pytorch.org/whl/cpu"

die() { echo "xeon.sh: $*" >&2; exit 2; }
say() { echo "xeon.sh: $*"; }

while [ $# -gt 0 ]; do
  case "$1" in
    --dry-run) dry=1; shift; continue ;;
    --no-install) install=0; shift; continue ;;
    --no-start) start=0; shift; continue ;;
    -h|--help) sed -n '2,15p' "${BASH_SOURCE[0]}" | sed 's/^# \{0,1\}//'; exit 0 ;;
    --task|--hub|--extras|--prefix|--from) [ $# -ge 2 ] || die "$1 needs a value" ;;
    *) die "unknown: $1 (see --help)" ;;
  esac
  case "$1" in
    --task) task="$2" ;;
    --hub) hub="$2" ;;
    --extras) extras="$2" ;;
    --prefix) prefix="$2" ;;
    --from) from="$2" ;;
  esac
  shift 2
done

[[ "$task" =~ ^[A-Za-z0-9._-]+$ ]] || die "--task '$task': right is a name of letters, digits, '.', '_' and '-'"
[[ -z "$hub" || "$hub" =~ ^[A-Za-z0-9.:-]+:[0-9]+$ ]] || die "--hub '$hub': right is host:port"
[[ "$extras" =~ ^[a-z0-9,]*$ ]] || die "--extras '$extras': right is a list with commas, as in torch,onnx"
[[ "$prefix" =~ ^[A-Za-z0-9_./~-]*$ ]] || die "--prefix '$prefix': right is a path without spaces: it goes into units"

if [ -n "$prefix" ]; then
  [ "$dry" = 1 ] || mkdir -p "$prefix"
  [ ! -d "$prefix" ] || prefix="$(cd "$prefix" && pwd)"
  venv="$prefix/venv" etc="$prefix/etc" units="$prefix/units" state="$prefix/state" systemctl=(systemctl --user) scope=user
else
  venv=/opt/kuberml etc=/etc/kuberml units=/etc/systemd/system state=/var/lib systemctl=(systemctl) scope=system
  [ "$dry" = 1 ] || [ "$(id -u)" = 0 ] || die "needs root for /opt and systemd: use sudo, or --prefix FOLDER"
fi

run() {
  if [ "$dry" = 1 ]; then echo "would run: $*"; else "$@"; fi
}

put() { # put FILE: what comes on stdin, if it is not there already; says whether it changed anything
  local file="$1" new
  new="$(cat)"
  if [ -f "$file" ] && [ "$(cat "$file")" = "$new" ]; then say "unchanged: $file"; return 0; fi
  if [ "$dry" = 1 ]; then echo "would write: $file"; return 0; fi
  mkdir -p "$(dirname "$file")"
  printf '%s\n' "$new" > "$file.part"
  mv "$file.part" "$file"
  say "wrote: $file"
}

unit() { # a unit of this folder, for where things are here; a user service cannot change who it is or what it sees
  sed -e "s|/opt/kuberml|$venv|g" -e "s|/etc/kuberml|$etc|g" -e "s|/var/lib/|$state/|g" "$here/$1" |
    if [ "$scope" = user ]; then
      sed -E -e '/^(DynamicUser|StateDirectory|StateDirectoryMode|PrivateDevices|ProtectSystem|ProtectHome|CapabilityBoundingSet|ProtectKernel[A-Za-z]+|ProtectControlGroups)=/d' \
        -e 's/multi-user.target/default.target/' -e '/network-online/d'
    else
      cat
    fi
}

flags=" $(sed -n 's/^flags[^:]*: *//p' /proc/cpuinfo 2>/dev/null | head -n 1) "
found=""
for flag in avx2 avx512f avx512_vnni avx_vnni avx512_bf16 amx_tile amx_bf16 amx_int8; do
  case "$flags" in *" $flag "*) found="$found $flag" ;; esac
done
say "this CPU has:${found:- none of the vector instructions that engines use}"

if [ "$install" = 1 ]; then
  if [ "$scope" = system ]; then
    command -v apt-get > /dev/null || [ "$dry" = 1 ] || die "no apt-get: this is for Debian and Ubuntu (or use --prefix)"
    if ! dpkg -s python3-venv g++ > /dev/null 2>&1; then
      run apt-get update -q
      run env DEBIAN_FRONTEND=noninteractive apt-get install -y -q python3 python3-venv g++
    fi
  fi
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || [ "$dry" = 1 ] ||
    die "Python $(python3 -V | cut -d' ' -f2) is too old: kuberml needs 3.11 (Debian 12, Ubuntu 24.04)"
  [ -x "$venv/bin/python" ] || run python3 -m venv "$venv"
  run "$venv/bin/pip" install -q --upgrade pip
  case ",$extras," in *,torch,*) run "$venv/bin/pip" install -q --index-url "$torch_index" torch ;; esac
  run "$venv/bin/pip" install -q --upgrade "$from${extras:+[$extras]}"
fi

names=(kuberml-serve)
if [ -z "$hub" ]; then
  hub=127.0.0.1:7447
  names=(kuberml-hub kuberml-serve)
  unit kuberml-hub.service | put "$units/kuberml-hub.service"
fi
[ "$scope" = system ] || run mkdir -p "$state/kuberml" "$state/kuberml-serve"
{ # what else somebody wrote there (KUBERML_TLS, KUBERML_REALM) stays
  printf 'KUBERML_HUB=%s\nKUBERML_TASK=%s\n' "$hub" "$task"
  [ ! -f "$etc/serve.env" ] || grep -vE '^KUBERML_(HUB|TASK)=' "$etc/serve.env" || true
} | put "$etc/serve.env"
unit kuberml-serve.service | put "$units/kuberml-serve.service"

if [ "$start" = 1 ]; then
  if [ "$scope" = user ]; then
    [ "$dry" = 1 ] || "${systemctl[@]}" show-environment > /dev/null 2>&1 ||
      die "no systemd of this user answers: log in as that user, not by su or sudo; or --no-start, and start what is in $units"
    for name in "${names[@]}"; do run "${systemctl[@]}" link -q "$units/$name.service"; done
  fi
  run "${systemctl[@]}" daemon-reload
  run "${systemctl[@]}" enable -q "${names[@]}"
  run "${systemctl[@]}" restart "${names[@]}"
fi
[ "$scope" = system ] || say "user services end with your last session; to keep them: loginctl enable-linger"
[ ! -x "$venv/bin/kuberml" ] || run "$venv/bin/kuberml" doctor
say "done: members dial port 7447 of the hub, queries go to port 8080 (http://127.0.0.1:8080/openapi.json)"
