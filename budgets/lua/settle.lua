-- Replace a reservation by the true cost and emit the spend event, in one step.
-- Needs no counter: one that is missing is loaded later from ledger, stream and reservations.
-- ARGV: generation, not_after, id, amount, admitted (0: unknown), path, event, tombstone_ms,
--       tokens, what the amount is learnt under ("": it teaches nothing).
-- Returns {"settled"|"again", stream id, recorded position}, {"late"} or {"closed"}.
local KEPT, LEARNT_MS = 32, 30 * 24 * 3600 * 1000
if lost(ARGV[1]) then
  return { "closed" }
end
if now_ms() > tonumber(ARGV[2]) then
  return { "late" }
end
local id, amount, admitted, path = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local tombstone = redis.call("GET", tombstone_of(id))
local orphaned = tombstone and string.match(tombstone, "^orphaned (%d+)$")
if tombstone and not orphaned then
  return { "again", tombstone, position() }
end
-- Admitted 0: the gateway does not know, as after a reserve whose outcome it never learned.
admitted = orphaned or admitted
if admitted == "0" then
  admitted = as_text(now_ms())
end

local held = redis.call("HMGET", reservation_of(id), unpack(RESERVATION))
if held[1] then
  admitted, path = held[2], held[3]
  -- Freeing comes first: a full store lets the rest of the script pass then.
  free(id, held, amount)
  correct_tokens(held, ARGV[9])
else
  add(path, tonumber(admitted), { s = amount })
end
local entry = redis.call("XADD", STREAM, "*", "id", id, "amount", amount, "admitted", admitted,
  "path", path, "kind", "usage", "event", ARGV[7])
redis.call("SET", tombstone_of(id), entry, "PX", ARGV[8])

-- Nine of ten such requests cost this at most: of the last 32, the fourth largest.
local function learn(key)
  redis.call("LPUSH", key .. ":costs", amount)
  redis.call("LTRIM", key .. ":costs", 0, KEPT - 1)
  local costs = redis.call("LRANGE", key .. ":costs", 0, -1)
  local rank, top = math.floor(#costs / 10) + 1, {}
  for _, cost in ipairs(costs) do
    local place = #top + 1
    while place > 1 and tonumber(top[place - 1]) < tonumber(cost) do
      place = place - 1
    end
    table.insert(top, place, cost)
    top[rank + 1] = nil
  end
  redis.call("HSET", key, "expected", top[rank], "count", as_text(#costs))
  redis.call("PEXPIRE", key, LEARNT_MS)
  redis.call("PEXPIRE", key .. ":costs", LEARNT_MS)
end
if ARGV[10] ~= "" then
  learn(learnt_of(ARGV[10]))
end
return { "settled", entry, position() }
