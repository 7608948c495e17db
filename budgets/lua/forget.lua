-- Drop keys of a store that is closed: one that has been opened since belongs to somebody else.
-- ARGV: generation (unused), then keys. Returns {"forgotten"} or {"closed"}.
if redis.call("EXISTS", GENERATION) == 1 then
  return { "closed" }
end
for i = 2, #ARGV do
  redis.call("DEL", ARGV[i])
end
return { "forgotten" }
