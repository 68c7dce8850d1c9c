# fish completion for goingctl(1)

# The value of an option on the command line, or the default.
function __goingctl_option
    set -l words (commandline -opc)
    if set -l index (contains -i -- $argv[1] $words); and set -q words[(math $index + 1)]
        echo $words[(math $index + 1)]
    else
        echo $argv[2]
    end
end

# Names of the services in the status in RUNDIR.
function __goingctl_services
    awk 'NR > 1 { print $1 }' (__goingctl_option -r /run/going)/status 2>/dev/null
end

# Names of service files; with the argument ".", those of disabled services.
function __goingctl_files
    command ls -A (__goingctl_option -d /etc/going.d) 2>/dev/null |
        string match -r -- (test "$argv[1]" = . && echo '(?<=^\.)[\w@-]+$' || echo '^[\w@-]+$')
end

function __goingctl_needs_command
    not __fish_seen_subcommand_from status start stop restart signal reload enable disable check \
        edit logs import export
end

complete -c goingctl -f
complete -c goingctl -s r -x -a '(__fish_complete_directories)' -d 'directory of the run-time state'
complete -c goingctl -s d -x -a '(__fish_complete_directories)' -d 'directory of the service files'
complete -c goingctl -s h -l help -d 'print the usage'
complete -c goingctl -s V -l version -d 'print the version'

complete -c goingctl -n __goingctl_needs_command -a status -d 'show what is up'
complete -c goingctl -n __goingctl_needs_command -a start -d 'start services'
complete -c goingctl -n __goingctl_needs_command -a stop -d 'stop services, and hold them down'
complete -c goingctl -n __goingctl_needs_command -a restart -d 'stop and start services'
complete -c goingctl -n __goingctl_needs_command -a signal -d 'send a signal'
complete -c goingctl -n __goingctl_needs_command -a reload -d 'send HUP'
complete -c goingctl -n __goingctl_needs_command -a enable -d 'take the dot off service files'
complete -c goingctl -n __goingctl_needs_command -a disable -d 'put a dot before service files'
complete -c goingctl -n __goingctl_needs_command -a check -d 'check the service files'
complete -c goingctl -n __goingctl_needs_command -a edit -d 'edit a service file'
complete -c goingctl -n __goingctl_needs_command -a logs -d 'show the end of its log file'
complete -c goingctl -n __goingctl_needs_command -a import -d 'turn a Procfile into service files'
complete -c goingctl -n __goingctl_needs_command -a export -d 'turn service files into a Procfile'

complete -c goingctl -n '__fish_seen_subcommand_from status start stop restart signal reload' \
    -a '(__goingctl_services)'
complete -c goingctl -n '__fish_seen_subcommand_from signal' \
    -a 'HUP INT QUIT KILL USR1 USR2 TERM CONT STOP WINCH'
complete -c goingctl -n '__fish_seen_subcommand_from enable' -a '(__goingctl_files .)'
complete -c goingctl -n '__fish_seen_subcommand_from disable edit logs export' -a '(__goingctl_files)'
complete -c goingctl -n '__fish_seen_subcommand_from status' -l json -d 'as JSON'
complete -c goingctl -n '__fish_seen_subcommand_from status' -l prometheus -d 'for a textfile collector'
complete -c goingctl -n '__fish_seen_subcommand_from status' -s w -l watch -d 'redraw while it changes'
complete -c goingctl -n '__fish_seen_subcommand_from start stop restart enable disable' \
    -l timeout -x -d 'seconds to wait'
complete -c goingctl -n '__fish_seen_subcommand_from start stop restart enable disable' \
    -l no-wait -d 'do not wait'
complete -c goingctl -n '__fish_seen_subcommand_from logs' -s f -l follow -d 'keep printing what is added'
complete -c goingctl -n '__fish_seen_subcommand_from logs' -s n -x -d 'lines'
complete -c goingctl -n '__fish_seen_subcommand_from import export' -s e -r -d 'file of variables'
complete -c goingctl -n '__fish_seen_subcommand_from import export' -s o -r -d 'where to write'
complete -c goingctl -n '__fish_seen_subcommand_from import export' -l force -d 'overwrite'
complete -c goingctl -n '__fish_seen_subcommand_from import' -s u -x -a '(__fish_complete_users)'
complete -c goingctl -n '__fish_seen_subcommand_from import' -s m -x -d 'formation: web=2,worker=1'
complete -c goingctl -n '__fish_seen_subcommand_from import' -s p -x -d 'the first port'
complete -c goingctl -n '__fish_seen_subcommand_from check import' -F
