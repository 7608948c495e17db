-- ARGV: generation. Returns {"position", how far the ledger has the stream} or {"closed"}.
if lost(ARGV[1]) then
  return { "closed" }
end
return { "position", position() }
