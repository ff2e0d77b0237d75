-- SPDX-License-Identifier: MIT
-- Runs the Lua of a README as it stands, its blocks one after another, against a private server.    readme.lua README.md
local redmoon = require "redmoon"

local text = assert(io.open(arg[1])):read("a")
local server <close> = assert(redmoon.embedded())
local blocks = {}
for block in text:gmatch("\n```lua\n(.-)\n```") do
  blocks[#blocks + 1] = block
end
assert(#blocks >= 2, "the README has no Lua blocks")
local program, replaced = table.concat(blocks, "\n"):gsub("redis://localhost:6379/0", server.url)
assert(replaced == 1, "the README's quick start connects to redis://localhost:6379/0")
assert(load(program, "=README.md", "t"))()
