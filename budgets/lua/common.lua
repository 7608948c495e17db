-- What every script begins with. KEYS[1] is the partition's hash tag, ARGV[1] the generation.
-- Amounts pass through as the strings they came in; Lua numbers only compare (a Lua number is a
-- double: beyond 2^53 it would cut money, and so does tostring() beyond 14 digits).
local tag = KEYS[1]
local STREAM, OPEN, GENERATION = tag .. "stream", tag .. "open", tag .. "gen"
local VERSIONS, MARK = tag .. "ver", tag .. "mark"

local function closed(generation)
  local kept = redis.call("HMGET", GENERATION, "number", "run_id")
  local run_id = string.match(redis.call("INFO", "server"), "run_id:(%x+)")
  return kept[1] ~= generation or kept[2] ~= run_id
end

local function now_ms()
  local time = redis.call("TIME")
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local function as_text(integer)
  return string.format("%.0f", integer)
end

local function counter_of(account)
  return tag .. "c:" .. account
end

local function reservation_of(id)
  return tag .. "r:" .. id
end

local function tombstone_of(id)
  return tag .. "t:" .. id
end

local function negative(amount)
  if string.sub(amount, 1, 1) == "-" then
    return string.sub(amount, 2)
  end
  return "-" .. amount
end

-- Add `amount` to the fields of one kind ("s" spent, "r" reserved) of every counter of the
-- account that exists and whose period [start, end) holds the admission.
local function add(account, kind, admitted, amount)
  if amount == "0" or amount == "-0" then
    return
  end
  local key = counter_of(account)
  for _, field in ipairs(redis.call("HKEYS", key)) do
    local of, first, last = string.match(field, "^(%a):(%d+):(%d+)$")
    if of == kind and tonumber(first) <= admitted and admitted < tonumber(last) then
      redis.call("HINCRBY", key, field, amount)
    end
  end
end

local function each_account(path)
  return string.gmatch(path, "[^,]+")
end

-- Stream ids are "milliseconds-sequence"; true if a is before b.
local function before(a, b)
  local a1, a2 = string.match(a, "^(%d+)-(%d+)$")
  local b1, b2 = string.match(b, "^(%d+)-(%d+)$")
  a1, a2, b1, b2 = tonumber(a1), tonumber(a2), tonumber(b1), tonumber(b2)
  return a1 < b1 or (a1 == b1 and a2 < b2)
end

local function position()
  return redis.call("HGET", MARK, "position") or "0-0"
end
