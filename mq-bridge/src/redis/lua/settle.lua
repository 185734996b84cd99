-- Settles what consumers hold; one that is none any more settles nothing.
-- ARGV: each settlement: source, consumer, `ack` or `requeue`, count of ids, ids.
local at = 1
while at <= #ARGV do
  local source, consumer, verdict = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local first = at + 4
  at = first + ARGV[at + 3]
  if redis.call('SISMEMBER', P .. 'c:' .. source, consumer) == 1 then
    for from = first, at - 1, 1000 do
      local to = math.min(from + 999, at - 1)
      if verdict == 'ack' then
        redis.call('XACK', P .. source, GROUP, unpack(ARGV, from, to))
        redis.call('XDEL', P .. source, unpack(ARGV, from, to))
      else
        give_back(source, { unpack(ARGV, from, to) })
      end
    end
    if verdict == 'requeue' then
      notify(source, '')
    end
  end
end
