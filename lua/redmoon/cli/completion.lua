-- SPDX-License-Identifier: MIT
-- redmoon completion: a script for the shell that completes commands, options and the words that they take.
--
-- Both are made from the parser, so they know what it knows. That for zsh is argparse's; its script for bash takes the
-- value of an option for a command, and completes no words of arguments, so that one is made here.

local terminal = require "redmoon.cli.terminal"

local M = { name = "completion", summary = "Print a script that completes this tool's words in a shell." }

M.epilog = [[
bash: source <(redmoon completion bash)
zsh:  redmoon completion zsh > "${fpath[1]}/_redmoon"]]

function M.define(command)
  command:argument("shell", "bash or zsh."):choices { "bash", "zsh" }
end

-- An option whose value is a file says so in its help text.
local function takes_file(option)
  local name = option._argname
  return name == "<file>" or type(name) == "table" and name[1] == "<file>"
end

-- For each command, by its path ("redmoon audit fix"): visit(path, parser).
local function each_command(parser, path, visit)
  visit(path, parser)
  for _, command in ipairs(parser._commands) do each_command(command, path .. " " .. command._aliases[1], visit) end
end

local function quoted(words) return '"' .. table.concat(words, " ") .. '"' end

-- Lines of bash's case statements: what is one word of which command.
local function collect(parser)
  local lines = { commands = {}, options = {}, takes = {}, values = {}, files = {}, words = {} }
  local function add(list, format, ...) list[#list + 1] = format:format(...) end
  each_command(parser, "redmoon", function(path, command)
    local options = {}
    for _, option in ipairs(command._options) do
      for _, alias in ipairs(option._aliases) do
        local name = path == "redmoon" and "redmoon*" or '"' .. path .. '"'
        options[#options + 1] = alias
        if option._maxargs > 0 then
          add(lines.takes, '%s" %s") skip=1 ;;', name, alias)
          if option._choices then add(lines.values, '%s" %s") words=%s ;;', name, alias, quoted(option._choices)) end
          if takes_file(option) then add(lines.files, '%s" %s") files=1 ;;', name, alias) end
        end
      end
    end
    add(lines.options, '"%s") words=%s ;;', path, quoted(options))
    local commands = {}
    for _, each in ipairs(command._commands) do
      commands[#commands + 1] = each._aliases[1]
      add(lines.commands, '"%s:%d %s") path+=" $word" position=0 ;;', path, #command._arguments, each._aliases[1])
    end
    local position = 0
    for _, argument in ipairs(command._arguments) do
      if argument._choices then add(lines.words, '"%s:%d") words=%s ;;', path, position, quoted(argument._choices)) end
      if takes_file(argument) then add(lines.words, '"%s:%d") files=1 ;;', path, position) end
      position = position + 1
    end
    if #commands > 0 then add(lines.words, '"%s:%d") words=%s ;;', path, position, quoted(commands)) end
  end)
  return lines
end

local template = [=[
# redmoon completion bash
_redmoon() {
  local cur=${COMP_WORDS[COMP_CWORD]} path=redmoon position=0 skip= word= words= files= i
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=${COMP_WORDS[i]}
    if [[ -n $skip ]]; then skip=; continue; fi
    case "$path $word" in
      @takes@
      *" -"*) ;;
      *)
        case "$path:$position $word" in
          @commands@
          *) position=$((position + 1)) ;;
        esac
        ;;
    esac
  done
  if [[ -n $skip ]]; then
    case "$path $word" in
      @values@
      @files@
    esac
  elif [[ $cur == -* ]]; then
    case "$path" in
      @options@
    esac
    [[ $path == redmoon ]] || words+=" --url --color"
  else
    case "$path:$position" in
      @words@
    esac
  fi
  if [[ -n $files ]]; then
    COMPREPLY=($(compgen -f -- "$cur"))
  else
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
    compopt +o default 2>/dev/null
  fi
}
complete -o default -F _redmoon redmoon
]=]

function M.bash(parser)
  local lines = collect(parser)
  return (template:gsub("( *)@(%l+)@\n", function(space, name)
    local text = {}
    for i, line in ipairs(lines[name]) do text[i] = space .. line .. "\n" end
    return table.concat(text)
  end))
end

-- argparse offers files for every value.
function M.zsh(parser)
  local wants_file = {}
  each_command(parser, "redmoon", function(_, command)
    for _, option in ipairs(command._options) do
      for _, alias in ipairs(option._aliases) do wants_file[alias] = takes_file(option) end
    end
  end)
  return (parser:get_zsh_complete():gsub('("?)(%-%-[%w-]+)(%b[]): :_files"', function(quote, name, text)
    return quote .. name .. text .. (wants_file[name] and ': :_files"' or ': :"')
  end))
end

function M.run(args, parser)
  terminal.write(M[args.shell](parser))
  return 0
end

return M
