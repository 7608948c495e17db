-- Close the store to every process at once; what it holds stays.
-- ARGV: generation: the newest that may be closed. Returns {"shut"} or {"closed"} (a newer one is
-- there).
local number = redis.call("HGET", GENERATION, "number")
if number and tonumber(number) > tonumber(ARGV[1]) then
  return { "closed" }
end
redis.call("DEL", GENERATION)
return { "shut" }
