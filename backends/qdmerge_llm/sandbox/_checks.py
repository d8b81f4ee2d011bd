"""What looks at a session's system at the end: pristine programs, and stand-ins for those that
would run what the model wrote.

The system's root is the model's, so every program that a check names must come from elsewhere. The
supervisor shows the host's programs, read-only, at ``PREFIX`` to checks alone, and lays the host's
libraries over those of the system. What remains of the model in a check: the files it is about,
programs the model was asked to write, and the accounts of the system.
"""

from __future__ import annotations

from pathlib import Path

from qdmerge_llm.sandbox._bwrap import library_path
from qdmerge_llm.sandbox._system import ENVIRONMENT

PREFIX = "/proc/fs"
"""Where checks find pristine programs: a folder of the kernel, which no one can replace."""
_OWN = f"{PREFIX}/check"
_PATH = ":".join(
    [_OWN, *(PREFIX + f for f in ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"))]
)
_SHELL = f"{PREFIX}/bin/bash"
_BASH = f"#!{_SHELL}\n"
COVERED = (
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/libx32",
    "/usr/libexec",
    "/etc/alternatives",
)
"""Folders of the system that checks see as the host has them, besides ``/lib`` and the like."""
REMOVED = ("/etc/ld.so.preload", "/etc/ld.so.cache", "/etc/sudo.conf")
"""Files that programs read and that a fresh system has not, or has as a mount."""
RENEWED = ("/etc/nsswitch.conf", "/etc/pam.d", "/etc/pam.d/other", "/etc/security")
"""Files that checks see as a fresh system has them."""

# Reading a file of the model (``. ~/.bashrc``) must not end the check, nor change what its words
# mean: another shell reads it, what it sets is taken over, and functions run in their own shells.
_PRELUDE = r"""
declare -A __text
__skipped='__*|_|BASH*|SHELLOPTS|IFS|ENV|PS4|LD_*|LC_*|PYTHON*|PERL*|*LOCPATH|GCONV_PATH|PPID|UID'
__skipped+='|EUID|DIRSTACK|FUNCNAME|GROUPS|HOST*|MACHTYPE|OSTYPE|OPT*|RANDOM|SECONDS|SRANDOM|LINENO'
__skipped+='|EPOCH*|COMP_*|PIPESTATUS|GLOBIGNORE|POSIXLY_CORRECT|kind|name|text|status'
source() {
  local kind name text status=1
  while IFS= read -r -d '' kind && IFS= read -r -d '' name && IFS= read -r -d '' text; do
    [[ $kind == status ]] && { status=$text; continue; }
    [[ $name =~ ^[A-Za-z_][A-Za-z0-9_.-]*$ ]] || continue
    [[ $kind == @(variable|exported) && $name == @(*[.-]*|$__skipped) ]] && continue
    case $kind in
      variable)
        [[ $name == PATH ]] && text=PREFIX_PATH:$text
        builtin declare -g -- "$name=$text" ;;
      exported) builtin export -- "$name" ;;
      alias) shopt -q expand_aliases || BASH_ALIASES[$name]=$text ;;
      function)
        [[ $(builtin type -t -- "$name") == @(builtin|keyword|file) ]] && continue
        [[ $name == source ]] && continue
        __text[$name]=$text
        builtin eval "function $name () (
          builtin unset -f $name; builtin eval \"\${__text[$name]}\"; $name \"\$@\"
        )" ;;
    esac
  done < <(
    builtin unset -f source .
    builtin source "$@" > /dev/null 2>&1
    builtin printf 'status\0-\0%d\0' $?
    for name in $(builtin compgen -v); do
      builtin printf 'variable\0%s\0%s\0' "$name" "${!name}"
    done
    for name in $(builtin compgen -e); do builtin printf 'exported\0%s\0-\0' "$name"; done
    for name in "${!BASH_ALIASES[@]}"; do
      builtin printf 'alias\0%s\0%s\0' "$name" "${BASH_ALIASES[$name]}"
    done
    for name in $(builtin compgen -A function); do
      builtin printf 'function\0%s\0%s\0' "$name" "$(builtin declare -f -- "$name")"
    done
  ) 2> /dev/null
  return $status
}
. () { source "$@"; }
""".replace("PREFIX_PATH", _PATH)

# ``su`` and ``runuser`` without PAM, login shells and their files.
_BECOME = (
    _BASH
    + r"""
user= command= login= shell=
while (($#)); do
  case $1 in
    -|-l|--login) login=1 ;;
    -c|--command|-s|--shell|-u|--user)
      case $1 in -c|--command) command=$2 ;; -s|--shell) shell=$2 ;; *) user=$2 ;; esac; shift ;;
    -lc|-cl) login=1; command=$2; shift ;;
    --command=*) command=${1#*=} ;;
    --shell=*) shell=${1#*=} ;;
    --user=*) user=${1#*=} ;;
    --) shift; break ;;
    -*) ;;
    *) [[ $user ]] && break; user=$1 ;;
  esac
  shift
done
user=${user:-root}
IFS=: read -r name _ number group _ home own < <(getent passwd "$user") || exit 1
[[ ${shell:-$own} == */@(nologin|false) ]] && exit 1
as=(setpriv --reuid "$number" --regid "$group" --init-groups env HOME="$home" USER="$name"
    LOGNAME="$name" SHELL="$own")
[[ $login ]] && cd -- "$home" 2> /dev/null
[[ $command ]] || (($#)) || exit 0
[[ $command ]] && set -- PREFIX/bin/bash --noprofile --norc -c "$command" bash "$@"
exec "${as[@]}" "$@"
""".replace("PREFIX", PREFIX)
)


def environment() -> dict[str, str]:
    """Return the environment of checks."""
    perl = [f"{PREFIX}{folder}" for pattern in _PERL for folder in sorted(_found(pattern))]
    path = f"{_PATH}:{ENVIRONMENT['PATH']}"
    return {**ENVIRONMENT, "PATH": path, **({"PERL5LIB": ":".join(perl)} if perl else {})}


_PERL = ("lib/*/perl-base", "lib/*/perl/5.*", "share/perl/5.*", "lib/perl5/core_perl")


def _found(pattern: str) -> list[str]:
    return [str(path) for path in Path("/usr").glob(pattern) if path.is_dir()]


def _python(python: str) -> str:
    libraries = library_path(PREFIX)
    return f"{f'LD_LIBRARY_PATH={libraries} ' if libraries else ''}exec {PREFIX}{python}"


def command(language: str, code: str, python: str) -> list[str]:
    """Return a program's command line, which its arguments follow. ``python`` is the interpreter
    below ``PREFIX``.
    """
    if language == "python":
        return [_SHELL, "-c", f'{_python(python)} -I -S -c "$0" "$@"', code]
    return [_SHELL, "-c", f". {_OWN}/.prelude; {code}", "--"]


def tools(python: str) -> dict[str, str]:
    """Return what checks find first, by name."""
    run = _python(python)
    isolated = f'{_BASH}case $1 in -*) {run} -I -S "$@" ;; esac\n{run} -s "$@"\n'
    names = ("python", "python3", python.rsplit("/", 1)[1])
    programs = {**dict.fromkeys(names, isolated), "su": _BECOME, "runuser": _BECOME}
    return {**programs, ".prelude": _PRELUDE}
