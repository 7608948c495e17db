-- Reserve `amount` on every account of the path, or on none.
-- ARGV: generation, not_after, stream_max, id, amount, seconds_ms, member, path, orphan event,
--       organization, its version, the global version, valid_from, valid_until,
--       then for each limit: account, "start:end", limit.
-- Returns {"reserved"|"again", admitted, spent, reserved, ...} (a pair for each limit, after it),
--   {"exceeded"|"busy", index of the limit from 0, spent, reserved}, {"missing", index, ...},
--   {"stale"}, {"ended"}, {"late"}, {"full"}, {"closed"}.
local LIMITS = 15
if closed(ARGV[1]) then
  return { "closed" }
end
local now = now_ms()
if now > tonumber(ARGV[2]) then
  return { "late" }
end
local id, amount = ARGV[4], ARGV[5]
if redis.call("EXISTS", tombstone_of(id)) == 1 then
  return { "ended" }
end
local existing = redis.call("HGET", reservation_of(id), "admitted")
if existing then
  return { "again", existing }
end

local organization, version, global = ARGV[10], ARGV[11], ARGV[12]
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
if now < tonumber(ARGV[13]) or now >= tonumber(ARGV[14]) then
  return { "stale" }
end
if redis.call("XLEN", STREAM) >= tonumber(ARGV[3]) then
  return { "full" }
end

local needed = tonumber(amount)
local missing, counters, busy = { "missing" }, {}, nil
for i = LIMITS, #ARGV, 3 do
  local index = (i - LIMITS) / 3
  local counter = redis.call("HMGET", counter_of(ARGV[i]), "s:" .. ARGV[i + 1], "r:" .. ARGV[i + 1])
  if not counter[1] or not counter[2] then
    missing[#missing + 1] = index
  elseif #missing == 1 then
    local spent, reserved, limit = tonumber(counter[1]), tonumber(counter[2]), tonumber(ARGV[i + 2])
    if spent + needed > limit then
      return { "exceeded", index, counter[1], counter[2] }
    end
    if not busy and spent + reserved + needed > limit then
      busy = { "busy", index, counter[1], counter[2] }
    end
  end
end
if #missing > 1 then
  return missing
end
if busy then
  return busy
end

for account in each_account(ARGV[8]) do
  add(account, "r", now, amount)
end
local deadline = as_text(now + tonumber(ARGV[6]))
redis.call("HSET", reservation_of(id), "amount", amount, "admitted", as_text(now),
  "deadline", deadline, "member", ARGV[7], "path", ARGV[8], "event", ARGV[9])
redis.call("ZADD", OPEN, deadline, id)
local reply = { "reserved", as_text(now) }
for i = LIMITS, #ARGV, 3 do
  local counter = redis.call("HMGET", counter_of(ARGV[i]), "s:" .. ARGV[i + 1], "r:" .. ARGV[i + 1])
  reply[#reply + 1] = counter[1]
  reply[#reply + 1] = counter[2]
end
return reply
