-- Settles what a consumer holds; one that is none any more settles nothing.
-- ARGV: source, consumer, `ack` or `requeue`, ids.
local source, consumer = ARGV[1], ARGV[2]
if redis.call('SISMEMBER', P .. 'c:' .. source, consumer) == 0 then
  return
end
for first = 4, #ARGV, 1000 do
  local last = math.min(first + 999, #ARGV)
  if ARGV[3] == 'ack' then
    redis.call('XACK', P .. source, GROUP, unpack(ARGV, first, last))
    redis.call('XDEL', P .. source, unpack(ARGV, first, last))
  else
    give_back(source, { unpack(ARGV, first, last) })
  end
end
if ARGV[3] ~= 'ack' then
  notify(source, '')
end
