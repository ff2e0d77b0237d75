-- SPDX-License-Identifier: MIT
-- Certificates for specs, made once by the openssl program: an authority, and servers that it trusts or does not.

local M = {}

-- Runs in the folder of the certificates; what openssl says is shown only when it fails.
local function run(dir, command)
  local log = dir .. "/log"
  if os.execute(("cd '%s' && { %s; } >log 2>&1"):format(dir, command)) then return end
  local file <close> = io.open(log)
  error(("certs: '%s' failed: %s"):format(command, file and file:read("a") or "no output"))
end

local request = "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout %s.key -subj '/CN=%s'"

local function authority(dir, name)
  run(dir, (request .. " -x509 -days 2 -out %s.crt"):format(name, "Redmoon " .. name, name))
end

-- A server's certificate for `names`, signed by `ca`.
local function issue(dir, name, ca, names)
  run(dir, ("printf 'subjectAltName=%s\\n' >%s.ext"):format(names, name))
  run(dir, (request .. " -out %s.csr"):format(name, name, name))
  run(dir, ("openssl x509 -req -in %s.csr -CA %s.crt -CAkey %s.key -set_serial 2 -days 2 -extfile %s.ext -out %s.crt")
    :format(name, ca, ca, name, name))
  return { cert = dir .. "/" .. name .. ".crt", key = dir .. "/" .. name .. ".key" }
end

-- Makes them in the existing folder `dir`. `ca_file` trusts `good` and `wrong_name`, but not `unknown_ca`.
function M.make(dir)
  local here = "DNS:localhost,IP:127.0.0.1"
  authority(dir, "authority")
  authority(dir, "stranger")
  return {
    ca_file = dir .. "/authority.crt",
    good = issue(dir, "good", "authority", here),
    wrong_name = issue(dir, "wrong_name", "authority", "DNS:other.example,IP:192.0.2.1"),
    unknown_ca = issue(dir, "unknown_ca", "stranger", here),
  }
end

return M
