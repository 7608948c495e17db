-- Raise the mirror of configuration versions; one never falls.
-- ARGV: generation, then pairs of scope and version. Returns {"raised"} or {"closed"}.
if lost(ARGV[1]) then
  return { "closed" }
end
for i = 2, #ARGV, 2 do
  if tonumber(ARGV[i + 1]) > tonumber(redis.call("HGET", VERSIONS, ARGV[i]) or 0) then
    redis.call("HSET", VERSIONS, ARGV[i], ARGV[i + 1])
  end
end
return { "raised" }
