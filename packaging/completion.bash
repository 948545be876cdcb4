# bash completion for flume. What commands and options there are, it reads from flume --help; the names of views and
# their methods it asks the database for.

# Lines "command NAME ARGUMENT", "option COMMAND NAME ARGUMENT" (COMMAND is - for the options of all).
_flume_words() {
  "$1" --help 2>/dev/null | awk '
    function options(text, of,   name, argument) {
      while (match(text, /(^|[ ;,])--?[a-z][a-z-]*( [A-Z]+)?/)) {
        name = substr(text, RSTART, RLENGTH)
        text = substr(text, RSTART + RLENGTH)
        sub(/^[ ;,]/, "", name)
        argument = name
        if (!sub(/^[^ ]+ /, "", argument)) argument = "-"
        sub(/ .*/, "", name)
        print "option", of, name, argument
      }
    }
    /^[^ ]/ { part = $1 }
    part == "commands" && /^  [a-z]/ { command = $1; print "command", command, $2 ~ /^\[?[A-Z]+[\]|]?/ ? $2 : "-" }
    part == "commands" && /^  [A-Z]/ { command = "" }
    part == "commands" && command != "" { options($0, command) }
    part == "options" && /^  -/ { sub(/   .*/, ""); options($0, "-") }'
}

# A word as it was typed, without its quotes and backslashes.
_flume_unquoted() { xargs printf %s <<<"$1" 2>/dev/null || printf %s "$1"; }

# The views of a database, or with a word "methods" NAME.METHOD for all of theirs. Changes nothing, says nothing.
_flume_views() {
  local program=$1 db views what=$4 code
  db=$(_flume_unquoted "${2/#\~/$HOME}") views=$(_flume_unquoted "${3/#\~/$HOME}")
  case $what in
    methods) code='for n, v in pairs(db.views) do for m in pairs(v.methods) do io.write(n, ".", m, "\n") end end' ;;
    *) code='for n in pairs(db.views) do io.write(n, "\n") end' ;;
  esac
  FLUME_VIEWS=${views:-$FLUME_VIEWS} timeout 2 "$program" --readonly -e "$code" "$db" 2>/dev/null </dev/null
}

# _flume_reply KIND: fills COMPREPLY with what an argument of that name in the help may be.
_flume_reply() {
  local IFS=$'\n'
  case $1 in
    *DIR*) compopt -o filenames; COMPREPLY=($(compgen -d -- "$cur")) ;;
    *FILE*) compopt -o filenames; COMPREPLY=($(compgen -f -- "$cur")) ;;
    *FORMAT*) COMPREPLY=($(compgen -W $'json\nflumelog-offset\nasync-append-only-log' -- "$cur")) ;;
    *MODE*) COMPREPLY=($(compgen -W $'always\ninterval\nos' -- "$cur")) ;;
    *NAME*) COMPREPLY=($(compgen -W "$(_flume_views "$program" "$db" "$views" names)" -- "$cur")) ;;
  esac
}

_flume_options() {
  local names
  names=$(awk -v of="${command:--}" '$1 == "option" && ($2 == "-" || $2 == of) { print $3 }' <<<"$help")
  COMPREPLY=($(compgen -W "$names" -- "$cur"))
}

_flume_commands() {
  local names
  names=$(awk '$1 == "command" { print $2 }' <<<"$help")
  case $cur in
    [A-Z]* | *.*) ;;
    *) COMPREPLY=($(compgen -W "$names" -- "$cur")) ;;
  esac
  COMPREPLY+=($(compgen -W "$(_flume_views "$program" "$db" "$views" methods)" -- "$cur"))
}

_flume() {
  local program=${COMP_WORDS[0]} cur=${COMP_WORDS[COMP_CWORD]} help db='' command='' views='' i word argument
  COMPREPLY=()
  help=$(_flume_words "$program")
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=${COMP_WORDS[i]}
    if [[ $word == -?* ]]; then
      argument=$(awk -v name="$word" '$1 == "option" && $3 == name && $4 != "-" { print $4; exit }' <<<"$help")
      [[ -n $argument ]] || continue
      [[ ${COMP_WORDS[i + 1]} != = ]] || ((i++))
      ((i++))
      if ((i >= COMP_CWORD)); then
        [[ $cur != = ]] || cur=
        _flume_reply "$argument"
        return
      fi
      [[ $word != --views ]] || views=${COMP_WORDS[i]}
    elif [[ -z $db ]]; then db=$word
    elif [[ -z $command ]]; then command=$word
    fi
  done
  if [[ $cur == -* ]]; then _flume_options
  elif [[ -z $db ]]; then _flume_reply DIR
  elif [[ -z $command ]]; then _flume_commands
  else _flume_reply "$(awk -v name="$command" '$1 == "command" && $2 == name { print $3 }' <<<"$help")"
  fi
}

complete -F _flume flume
