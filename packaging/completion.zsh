#compdef flume
# zsh completion for flume. What commands and options there are, it reads from flume --help; the names of views and
# their methods it asks the database for.

# Lines "command NAME ARGUMENT DESCRIPTION", "option COMMAND NAME ARGUMENT" (COMMAND is - for the options of all).
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
    function command_line(line,   description) {
      description = line
      sub(/^.*   */, "", description)
      print "command", command, $2 ~ /^\[?[A-Z]+[\]|]?/ ? $2 : "-", description
    }
    /^[^ ]/ { part = $1 }
    part == "commands" && /^  [a-z]/ { command = $1; command_line($0) }
    part == "commands" && /^  [A-Z]/ { command = "" }
    part == "commands" && command != "" { options($0, command) }
    part == "options" && /^  -/ { sub(/   .*/, ""); options($0, "-") }'
}

# The views of a database, or with a word "methods" NAME.METHOD for all of theirs. Changes nothing, says nothing.
_flume_views() {
  local program=$1 db=${(Q)2/#\~/$HOME} views=${(Q)3/#\~/$HOME} what=$4 code
  case $what in
    methods) code='for n, v in pairs(db.views) do for m in pairs(v.methods) do io.write(n, ".", m, "\n") end end' ;;
    *) code='for n in pairs(db.views) do io.write(n, "\n") end' ;;
  esac
  FLUME_VIEWS=${views:-$FLUME_VIEWS} timeout 2 "$program" --readonly -e "$code" "$db" 2>/dev/null </dev/null
}

# _flume_reply KIND: offers what an argument of that name in the help may be.
_flume_reply() {
  case $1 in
    *DIR*) _files -/ ;;
    *FILE*) _files ;;
    *FORMAT*) compadd -- json flumelog-offset async-append-only-log ;;
    *MODE*) compadd -- always interval os ;;
    *NAME*) compadd -- ${(f)"$(_flume_views "$program" "$db" "$views" names)"} ;;
    *) return 1 ;;
  esac
}

_flume_options() {
  compadd -- ${(f)"$(awk -v of="${command:--}" '$1 == "option" && ($2 == "-" || $2 == of) { print $3 }' <<<"$help")"}
}

_flume_commands() {
  local -a described
  described=(${(f)"$(awk '$1 == "command" { name = $2; sub(/^[^ ]+ [^ ]+ [^ ]+ /, ""); print name ":" $0 }' <<<"$help")"})
  _describe command described
  compadd -- ${(f)"$(_flume_views "$program" "$db" "$views" methods)"}
}

_flume() {
  local program=$words[1] current=$words[CURRENT] help db command views word argument
  integer i
  help=$(_flume_words "$program")
  for ((i = 2; i < CURRENT; i++)); do
    word=$words[i]
    if [[ $word == -?* ]]; then
      [[ $word != --views=* ]] || views=${word#--views=}
      argument=$(awk -v name="$word" '$1 == "option" && $3 == name && $4 != "-" { print $4; exit }' <<<"$help")
      [[ -n $argument ]] || continue
      ((++i < CURRENT)) || { _flume_reply "$argument"; return }
      [[ $word != --views ]] || views=$words[i]
    elif [[ -z $db ]]; then db=$word
    elif [[ -z $command ]]; then command=$word
    fi
  done
  if [[ $current == -* ]]; then _flume_options
  elif [[ -z $db ]]; then _files -/
  elif [[ -z $command ]]; then _flume_commands
  else _flume_reply "$(awk -v name="$command" '$1 == "command" && $2 == name { print $3 }' <<<"$help")"
  fi
}

_flume "$@"
