-- Removes some of what is left of deleted sources.
-- Gives 1 where there is more.
local trash = redis.call('SRANDMEMBER', P .. 'trash')
if not trash then
  return 0
end
local entries = redis.call('XRANGE', P .. trash, '-', '+', 'COUNT', 100)
for _, entry in ipairs(entries) do
  local number = entry[2][1] == 'mq-shared' and entry[2][2]:match('^(%d+) ')
  if number then
    unshare(number)
  end
  redis.call('XDEL', P .. trash, entry[1])
end
if #entries < 100 then
  redis.call('UNLINK', P .. trash)
  redis.call('SREM', P .. 'trash', trash)
end
return 1
