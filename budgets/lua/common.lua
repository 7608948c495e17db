-- What every script begins with. KEYS[1] is the partition's hash tag, ARGV[1] the generation.
-- Amounts pass through as the strings they came in; Lua numbers only compare (a Lua number is a
-- double: beyond 2^53 it would cut money, and so does tostring() beyond 14 digits).
local tag = KEYS[1]
local STREAM, OPEN, GENERATION = tag .. "stream", tag .. "open", tag .. "gen"
local VERSIONS, MARK = tag .. "ver", tag .. "mark"
local WINDOW_SECONDS = 60

-- True unless the store is of that generation, also while it is being rebuilt.
local function lost(generation)
  local kept = redis.call("HMGET", GENERATION, "number", "run_id")
  local run_id = string.match(redis.call("INFO", "server"), "run_id:(%x+)")
  return kept[1] ~= generation or kept[2] ~= run_id
end

-- True unless it is of that generation and open: rebuilt, with all that its members held.
local function closed(generation)
  return lost(generation) or redis.call("HGET", GENERATION, "open") ~= "1"
end

local function now_ms()
  local time = redis.call("TIME")
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + CLOCK_OFFSET_MS
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

local function window_of(account)
  return tag .. "w:" .. account
end

local function learnt_of(what)
  return tag .. "l:" .. what
end

local function negative(amount)
  if string.sub(amount, 1, 1) == "-" then
    return string.sub(amount, 2)
  end
  return "-" .. amount
end

-- A path is the ids of accounts, comma-separated; after a semicolon those of holder and model.
local function each_account(path)
  return string.gmatch(path, "%x+")
end

-- Add to the counters of all accounts of the path, to each that exists and whose period
-- [start, end) holds the admission. `by` has the amounts: "s" spent, "r" reserved at the ceiling,
-- "e" reserved as expected, "p" requests in flight (which have no period).
local function add(path, admitted, by)
  for account in each_account(path) do
    local key = counter_of(account)
    for _, field in ipairs(redis.call("HKEYS", key)) do
      local kind, first, last = string.match(field, "^(%a):?(%d*):?(%d*)$")
      local amount = by[kind]
      if amount and tonumber(amount) ~= 0
        and (first == "" or (tonumber(first) <= admitted and admitted < tonumber(last))) then
        redis.call("HINCRBY", key, field, amount)
      end
    end
  end
end

-- End a reservation: what it held is free again. `spent` is what is charged instead.
local RESERVATION = { "ceiling", "admitted", "path", "expected", "rated", "tokens" }
local function free(id, held, spent)
  redis.call("DEL", reservation_of(id))
  redis.call("ZREM", OPEN, id)
  add(held[3], tonumber(held[2]), {
    s = spent, r = negative(held[1]), e = negative(held[4]), p = "-1",
  })
end

-- Put right the tokens that a reservation counted in the rate windows.
local function correct_tokens(held, tokens)
  local difference = tonumber(tokens) - tonumber(held[6] or 0)
  if difference == 0 or not held[5] then
    return
  end
  local field = "t" .. as_text(math.floor(tonumber(held[2]) / 1000))
  for account in each_account(held[5]) do
    if redis.call("HEXISTS", window_of(account), field) == 1 then
      redis.call("HINCRBY", window_of(account), field, as_text(difference))
    end
  end
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
