-- Renews the lease of a session, and gives back what those hold whose lease is over.
-- ARGV: session, its lease in milliseconds; 0 ends it.
-- Gives 0, 1 where there is more to give back, or -1 where the session is over itself.
local session = ARGV[1]
if redis.call('PEXPIRE', P .. 'lease:' .. session, ARGV[2]) == 0 then
  return -1
end
for _, one in ipairs(redis.call('SMEMBERS', P .. 'sessions')) do
  if redis.call('EXISTS', P .. 'lease:' .. one) == 0 then
    local held = redis.call('SRANDMEMBER', P .. 's:' .. one, 100)
    for _, each in ipairs(held) do
      local consumer, source = each:match('^([^\n]*)\n(.*)$')
      remove(source, consumer)
      notify(source, '')
    end
    if #held == 100 then
      return 1
    end
    redis.call('SREM', P .. 'sessions', one)
  end
end
return 0
