-- ARGV: sources.
-- Gives those with messages that no consumer has.
local found = {}
for _, source in ipairs(ARGV) do
  if declared(source) then
    local pending = redis.call('XPENDING', P .. source, GROUP)
    local held = pending[1]
    for _, one in ipairs(pending[4] or {}) do
      if one[1] == RETURNED then
        held = held - tonumber(one[2])
      end
    end
    if redis.call('XLEN', P .. source) > held then
      found[#found + 1] = source
    end
  end
end
return found
