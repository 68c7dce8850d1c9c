# bash completion for goingctl(1)

# Offers paths: a directory is followed by a slash, not a blank.
_goingctl_paths() {
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen "$1" -- "$2")
}

# Passes on lines that are names of services: compgen would expand anything else.
_goingctl_names() {
    grep -x '[A-Za-z0-9_@-]*'
}

# Names of the services in the status in RUNDIR.
_goingctl_services() {
    awk 'NR > 1 { print $1 }' "$1/status" 2>/dev/null | _goingctl_names
}

# Names of service files.
_goingctl_files() {
    ls "$1" 2>/dev/null | _goingctl_names
}

_goingctl() {
    local word=${COMP_WORDS[COMP_CWORD]} last=${COMP_WORDS[COMP_CWORD-1]}
    local confdir=/etc/going.d rundir=/run/going command='' words='' index
    for ((index = 1; index < COMP_CWORD; index++)); do
        case ${COMP_WORDS[index]} in
        -d) confdir=${COMP_WORDS[++index]} ;;
        -r) rundir=${COMP_WORDS[++index]} ;;
        -*) ;;
        *) [ -n "$command" ] || command=${COMP_WORDS[index]} ;;
        esac
    done
    # Where bash completes host names, it takes the "@" in "web@1" as the beginning of one, and
    # replaces only that part of the word.
    local begun=${COMP_LINE:0:${COMP_POINT:-0}} kept=''
    begun=${begun##*[[:space:]]}
    if [[ $COMP_WORDBREAKS == *@* && $begun == *@* ]]; then
        word=$begun kept=${begun%@*}
    fi
    COMPREPLY=()
    case $last in
    -d | -r) _goingctl_paths -d "$word"; return ;;
    -e | -o) _goingctl_paths -f "$word"; return ;;
    -u) mapfile -t COMPREPLY < <(compgen -u -- "$word"); return ;;
    -m | -n | -p | --timeout) return ;;
    esac
    case $command in
    '')
        words="status start stop restart signal reload enable disable check edit logs import export
            -d -r --help --version --json --prometheus --watch"
        ;;
    status) words="--json --prometheus --watch $(_goingctl_services "$rundir")" ;;
    start | stop | restart) words="--timeout --no-wait all $(_goingctl_services "$rundir")" ;;
    signal)
        words="all $(_goingctl_services "$rundir")"
        [ "$last" != signal ] || words="HUP INT QUIT KILL USR1 USR2 TERM CONT STOP WINCH"
        ;;
    reload) words="all $(_goingctl_services "$rundir")" ;;
    enable) words="--timeout --no-wait $(ls -A "$confdir" 2>/dev/null | sed -n 's/^\.//p' | _goingctl_names)" ;;
    disable) words="--timeout --no-wait $(_goingctl_files "$confdir")" ;;
    edit) words=$(_goingctl_files "$confdir") ;;
    logs) words="--follow -n $(_goingctl_files "$confdir")" ;;
    check) _goingctl_paths -f "$word"; return ;;
    import)
        _goingctl_paths -f "$word"
        words="-e -u -d -o -m -p --force"
        ;;
    export) words="-e -o --force $(_goingctl_files "$confdir")" ;;
    esac
    mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -W "$words" -- "$word")
    COMPREPLY=("${COMPREPLY[@]#"$kept"}")
}

complete -F _goingctl goingctl
