-- SPDX-License-Identifier: MIT
-- Runs a command whose $REDIS_URL leads to a private server; ends with its status.    with_server.lua COMMAND...
local redmoon = require "redmoon"

local function quoted(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

local words = {}
for i, word in ipairs(arg) do words[i] = quoted(word) end
local server = assert(redmoon.embedded())
local ok, _, status = os.execute("REDIS_URL=" .. quoted(server.url) .. " " .. table.concat(words, " "))
server:close()
os.exit(ok or status)
