std = "lua54"
max_line_length = 122
codes = true
exclude_files = { "build", "build.luarocks", ".deps" }

-- Server-side scripts run under the server's Lua 5.1; tools/lint gives them with their includes expanded.
files["tools/commands/dump.lua"] = { std = "lua51", read_globals = { "redis" } }
files["tests"] = { std = "+busted" }
files["**/*.d.lua"] = { ignore = { "111", "112", "113", "131", "211", "212", "241" } }
