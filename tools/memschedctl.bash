# SPDX-License-Identifier: GPL-2.0-or-later
#
# Completion of memschedctl for bash: source it, or copy it to
# /usr/share/bash-completion/completions/memschedctl.
#
# Commands and options come from --help, so that nothing is written twice;
# guests are asked for, at most a second long.

_memschedctl_commands()
{
    "$1" --help 2>/dev/null | sed -n 's/^  \([a-z]*\)  .*/\1/p'
}

_memschedctl_options()
{
    "$1" "$2" --help 2>/dev/null | grep -o -- '--[a-z][a-z-]*'
}

# The process is not asked: the names are in the program.
_memschedctl_figures()
{
    "$1" top --sort help 2>/dev/null | sed 's/ .*//'
}

_memschedctl_guests()
{
    "$1" ${2:+-s "$2"} -t 1 guests --csv 2>/dev/null |
        awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == "guest") g = i }
                 NR > 1 { print $g }'
}

_memschedctl()
{
    local program=${COMP_WORDS[0]} word=${COMP_WORDS[COMP_CWORD]}
    local before=${COMP_WORDS[COMP_CWORD - 1]} command= socket= i

    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
        -s | --socket) socket=${COMP_WORDS[++i]} ;;
        -t | --timeout) ((i++)) ;;
        -*) ;;
        *) command=${COMP_WORDS[i]}; break ;;
        esac
    done
    COMPREPLY=()
    case $before in
    -s | --socket | -o | --output)
        COMPREPLY=($(compgen -f -- "$word"))
        return ;;
    --policy)
        COMPREPLY=($(compgen -W 'static shares idle-tax' -- "$word"))
        return ;;
    --source)
        COMPREPLY=($(compgen -W 'any application kernel reported' -- "$word"))
        return ;;
    --sort)
        COMPREPLY=($(compgen -W "$(_memschedctl_figures "$program")" \
            -- "$word"))
        return ;;
    --dry-run)
        COMPREPLY=($(compgen -W 'on off' -- "$word"))
        return ;;
    esac
    if [[ -z $command ]]; then
        COMPREPLY=($(compgen -W "$(_memschedctl_commands "$program") \
            --socket --timeout --help" -- "$word"))
    elif [[ $word == -* ]]; then
        COMPREPLY=($(compgen -W \
            "$(_memschedctl_options "$program" "$command")" -- "$word"))
    else
        case $command in
        move | set | explain | applications | protection)
            COMPREPLY=($(compgen -W \
                "$(_memschedctl_guests "$program" "$socket")" -- "$word")) ;;
        plot | record)
            COMPREPLY=($(compgen -f -- "$word")) ;;
        esac
    fi
}

complete -F _memschedctl memschedctl
