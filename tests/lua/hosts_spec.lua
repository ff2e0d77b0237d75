-- SPDX-License-Identifier: MIT
-- docs/hosts.md says of every type in the headers which thread may use it, and names tests that exist.

local function read(path)
  local file <close> = assert(io.open(path))
  return file:read("a")
end

local function output(command)
  local pipe <close> = assert(io.popen(command))
  return pipe:read("a")
end

local document = read("docs/hosts.md")
local classes = { ["internally locked"] = {}, immutable = {}, ["one thread at a time"] = {} }
for class, types in pairs(classes) do
  local row = assert(document:match("\n| " .. class .. "[^|]*|([^\n]*)|\n"), class)
  for name in row:gmatch("`([%w_]+)`") do types[name] = true end
end

local function class_of(comment)
  for class in pairs(classes) do
    if comment:find("Thread class: " .. class, 1, true) then return class end
  end
end

describe("docs/hosts.md", function()
  it("names every type that a header declares, in the class that the header gives it", function()
    local seen = {}
    for path in output("ls core/include/redmoon/*.h"):gmatch("%S+") do
      for comment, name in read(path):gmatch("(/%*%*[^/]-)%*/\ntypedef struct ([%w_]+) [%w_]+;") do
        local class = class_of(comment)
        assert.truthy(class, path .. ": " .. name .. " has no thread class")
        assert.truthy(classes[class][name], name .. " is not named as " .. class)
        seen[name] = true
      end
    end
    for _, types in pairs(classes) do
      for name in pairs(types) do assert.truthy(seen[name], name .. " is in no header") end
    end
  end)

  it("leaves out none that can be freed or closed", function()
    for name in output("cat core/include/redmoon/*.h"):gmatch("REDMOON_API void (redmoon_[%w_]+)_free%(") do
      -- Data is a struct that its caller reads.
      local known = name:find("_list$") or name:find("_report$") or name:find("message$")
      for _, types in pairs(classes) do known = known or types[name] end
      assert.truthy(known, name)
    end
  end)

  it("names tests that there are", function()
    local count = 0
    for row in document:gmatch("\n| %*%*[^\n]+") do
      local folder
      for path in row:match("[^|]*|[^\n]*$"):gmatch("`([%w_/*]+%.[%w]+)`") do
        folder = path:match("^(tests/.*/)") or folder
        path = path:find("/") and path or folder .. path
        if path:find("^tests/") then
          assert.truthy(output("ls " .. path):find("%S"), path)
          count = count + 1
        end
      end
    end
    assert.truthy(count > 15)
  end)
end)
