-- ARGV: source.
-- Gives how many messages it keeps, how many of them are with consumers, how many consumers there
-- are; or nothing where it is not declared.
local source = ARGV[1]
if not declared(source) then
  return false
end
local pending = redis.call('XPENDING', P .. source, GROUP)
local unacked = pending[1]
for _, one in ipairs(pending[4] or {}) do
  if one[1] == RETURNED then
    unacked = unacked - tonumber(one[2])
  end
end
return { redis.call('XLEN', P .. source), unacked, redis.call('SCARD', P .. 'c:' .. source) }
