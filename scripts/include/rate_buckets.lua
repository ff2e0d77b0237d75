-- rate_buckets: units counted in `count` buckets to a window; those of the last count + 1 buckets are in use, and these
-- cover any window.  Text "bucket:newest:...:oldest", buckets numbered from 1970 on, zeros at the end left out.
function RATE_LOOKS.buckets(key, limit, window, count, now)
  local stored = rate_numbers(redis.call("GET", key))
  local size = math.ceil(window / math.max(count, 1))
  local number = math.max(math.floor(now / size), stored[1] or 0)
  local units, used, shift = {}, 0, number - (stored[1] or number)
  for age = 0, count do
    units[age] = age >= shift and stored[2 + age - shift] or 0
    used = used + units[age]
  end
  local function leaves(age) return (number - age + count + 1) * size - now end
  local function reset_of()
    for age = 0, count do
      if units[age] > 0 then return leaves(age) end
    end
    return 0
  end
  return {
    free = math.max(limit - used, 0),
    used = used,
    reset = reset_of(),
    retry = function(cost)
      local need = cost > limit and -1 or used + cost - limit
      for age = count, 0, -1 do
        if need > 0 and need <= units[age] then return leaves(age) end
        need = need > 0 and need - units[age] or need
      end
      return -1
    end,
    after = function(more)
      units[0] = units[0] + math.max(more, 0)
      local back, list = math.max(-more, 0), {number}
      for age = count, 0, -1 do -- the oldest first: that frees the least
        local taken = math.min(back, units[age])
        units[age], back = units[age] - taken, back - taken
      end
      local last = count
      while last > 0 and units[last] == 0 do last = last - 1 end
      for age = 0, last do list[age + 2] = units[age] end
      return rate_text(list), reset_of()
    end,
  }
end
