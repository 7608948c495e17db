-- Reserve on every account of the path, or on none; without an id only look what would become of
-- it: nothing is held or counted then.
-- ARGV: generation, not_after, stream_max, id, ceiling, prior, seconds_ms, member, path,
--       orphan event, organization, its version, the global version, valid_from, valid_until,
--       tokens, what it is learnt under,
--       then for each limit: account, code, "start:end", limit.
-- A limit's code: s strict, a adaptive, o observed money; q requests and t tokens a minute;
-- p requests at once (Q, T, P: observed).
-- Returns {"reserved"|"again", admitted, expected, held, observed, used, held, ...} (observed: the
--   indexes from 0 that would have refused; a pair for each limit, after it; "again" has neither),
--   {"exceeded"|"busy"|"limited"|"parallel", index, used, held, needed, wait_ms},
--   {"missing", index, ...}, {"stale"}, {"ended"}, {"late"}, {"full"}, {"closed"};
--   {"looked", expected, observed, learnt, of how many, refusal ("": none), index, used, held,
--   needed, wait_ms, used, held, ...}.
local LIMITS, WORDS = 18, 4
if closed(ARGV[1]) then
  return { "closed" }
end
local now = now_ms()
if now > tonumber(ARGV[2]) then
  return { "late" }
end
local id, ceiling, path = ARGV[4], ARGV[5], ARGV[9]
if redis.call("EXISTS", tombstone_of(id)) == 1 then
  return { "ended" }
end
local looks = id == ""
local existing = redis.call("HMGET", reservation_of(id), "admitted", "expected", "held")
if existing[1] then
  return { "again", existing[1], existing[2], existing[3], "" }
end

local organization, version, global = ARGV[11], ARGV[12], ARGV[13]
local known = redis.call("HMGET", VERSIONS, organization, "0")
if tonumber(version) < tonumber(known[1] or 0) or tonumber(global) < tonumber(known[2] or 0) then
  return { "stale" }
end
if tonumber(version) > tonumber(known[1] or 0) then
  redis.call("HSET", VERSIONS, organization, version)
end
if tonumber(global) > tonumber(known[2] or 0) then
  redis.call("HSET", VERSIONS, "0", global)
end
if now < tonumber(ARGV[14]) or now >= tonumber(ARGV[15]) then
  return { "stale" }
end
if redis.call("XLEN", STREAM) >= tonumber(ARGV[3]) then
  return { "full" }
end

-- What such requests have cost lately, never above the ceiling; the prior until that is known.
local learnt = redis.call("HMGET", learnt_of(ARGV[17]), "expected", "count")
local expected = learnt[1]
if not expected or (tonumber(learnt[2]) < 4 and tonumber(expected) < tonumber(ARGV[6])) then
  expected = ARGV[6]
end
if tonumber(expected) > tonumber(ceiling) then
  expected = ceiling
elseif tonumber(expected) <= 0 and tonumber(ceiling) > 0 then
  expected = "1" -- with nothing left of a limit, even a request of unknown cost must not pass
end

local second = math.floor(now / 1000)
-- What the last minute of an account holds, and when the window has room for `more` again.
local function window(account, kind, more, limit)
  local fields, seconds, sums, total, gone = redis.call("HGETALL", window_of(account)), {}, {}, 0, {}
  for i = 1, #fields, 2 do
    local of, at = string.sub(fields[i], 1, 1), tonumber(string.sub(fields[i], 2))
    -- What was admitted within that second may be so much younger than its beginning.
    if at < second - WINDOW_SECONDS then
      gone[#gone + 1] = fields[i]
    elseif of == kind then
      seconds[#seconds + 1], sums[at] = at, tonumber(fields[i + 1])
      total = total + sums[at]
    end
  end
  if #gone > 0 then
    redis.call("HDEL", window_of(account), unpack(gone))
  end
  table.sort(seconds)
  local left, wait = total, WINDOW_SECONDS * 1000
  for _, at in ipairs(seconds) do
    left = left - sums[at]
    if left + more <= limit then
      wait = (at + WINDOW_SECONDS + 1) * 1000 - now
      break
    end
  end
  return total, wait
end

-- Each returns nothing (its counter is missing), or {what it says, used, held, needed, wait}.
local check = {}
local function money(account, period, limit, kind, amount)
  local counter = redis.call("HMGET", counter_of(account), "s:" .. period, kind .. ":" .. period)
  if not counter[1] or not counter[2] then
    return nil
  end
  local spent, reserved, needed = tonumber(counter[1]), tonumber(counter[2]), tonumber(amount)
  local says = "fits"
  -- What costs nothing needs no money: a free model survives an empty budget.
  if needed > 0 and spent + needed > limit then
    says = "exceeded"
  elseif needed > 0 and spent + reserved + needed > limit then
    says = "busy"
  end
  return { says, counter[1], counter[2], amount, 0 }
end
function check.s(account, period, limit)
  return money(account, period, limit, "r", ceiling)
end
function check.a(account, period, limit)
  return money(account, period, limit, "e", expected)
end
check.o = check.a
function check.q(account, _, limit)
  local used, wait = window(account, "q", 1, limit)
  return { used + 1 > limit and "limited" or "fits", as_text(used), "0", "1", wait }
end
function check.t(account, _, limit)
  local needed = tonumber(ARGV[16])
  local used, wait = window(account, "t", needed, limit)
  return { used + needed > limit and "limited" or "fits", as_text(used), "0", ARGV[16], wait }
end
function check.p(account, _, limit)
  local open = redis.call("HGET", counter_of(account), "p")
  if not open then
    return nil
  end
  return { tonumber(open) + 1 > limit and "parallel" or "fits", open, "0", "1", 0 }
end

-- What only a reset helps comes first; then what a wait does; the nearest to the caller first.
local RANK = { exceeded = 1, limited = 2, parallel = 3, busy = 4 }
local missing, observed, refusal, rated = { "missing" }, {}, nil, {}
local is_strict, in_window = false, {}
for i = LIMITS, #ARGV, WORDS do
  local index, account, code = (i - LIMITS) / WORDS, ARGV[i], ARGV[i + 1]
  local found = check[string.lower(code)](account, ARGV[i + 2], tonumber(ARGV[i + 3]))
  is_strict = is_strict or code == "s"
  if code == "q" or code == "t" or code == "Q" or code == "T" then
    rated[account] = true
    in_window[index] = { tonumber(found[2]), tonumber(found[4]) }
  end
  if not found then
    missing[#missing + 1] = index
  elseif found[1] == "fits" then
    found = nil
  elseif code == "o" or code == string.upper(code) then
    observed[#observed + 1] = as_text(index)
  elseif not refusal or RANK[found[1]] < RANK[refusal[1]] then
    refusal = { found[1], index, found[2], found[3], found[4], math.max(found[5], 0) }
  end
end
if #missing > 1 then
  return missing
end

-- Put at the end of an answer what each limit holds now; of a minute what it held, and `counted`
-- times what this request adds: to go through its seconds again would take as long as all else.
local function with_standings(reply, counted)
  for i = LIMITS, #ARGV, WORDS do
    local index = (i - LIMITS) / WORDS
    local kept = in_window[index]
    if kept then
      reply[#reply + 1] = as_text(kept[1] + counted * kept[2])
      reply[#reply + 1] = "0"
    else
      local code = string.lower(ARGV[i + 1])
      local found = check[code](ARGV[i], ARGV[i + 2], tonumber(ARGV[i + 3]))
      reply[#reply + 1] = found[2]
      reply[#reply + 1] = found[3]
    end
  end
  return reply
end

if looks then
  local reply = { "looked", expected, table.concat(observed, ","), learnt[1] or "0", learnt[2] or "0" }
  for _, word in ipairs(refusal or { "", 0, "0", "0", "0", 0 }) do
    reply[#reply + 1] = word
  end
  return with_standings(reply, 0)
end
if refusal then
  return refusal
end

add(path, now, { r = ceiling, e = expected, p = "1" })
local windows = {}
for account in pairs(rated) do
  windows[#windows + 1] = account
  redis.call("HINCRBY", window_of(account), "q" .. as_text(second), "1")
  redis.call("HINCRBY", window_of(account), "t" .. as_text(second), ARGV[16])
  redis.call("EXPIRE", window_of(account), WINDOW_SECONDS * 2)
end
-- What is charged if nobody settles: under a strict limit the most that it can have cost.
local held = is_strict and ceiling or expected
local deadline = as_text(now + tonumber(ARGV[7]))
redis.call("HSET", reservation_of(id), "ceiling", ceiling, "expected", expected, "held", held,
  "admitted", as_text(now), "deadline", deadline, "member", ARGV[8], "path", path,
  "event", ARGV[10], "tokens", ARGV[16], "rated", table.concat(windows, ","))
redis.call("ZADD", OPEN, deadline, id)
return with_standings({
  "reserved", as_text(now), expected, held, table.concat(observed, ","),
}, 1)
