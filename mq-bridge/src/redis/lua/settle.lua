-- Settles what consumers hold; one that is none any more settles nothing.
-- ARGV: each settlement: source, consumer, `ack` or `requeue`, count of ids, ids, count of those
-- that share a body, these: id and number of the body.
local function ack_shared(source, id, number)
  if redis.call('XACK', P .. source, GROUP, id) == 1 then
    redis.call('XDEL', P .. source, id)
    unshare(number)
  end
end

local at = 1
while at <= #ARGV do
  local source, consumer, verdict = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local first = at + 4
  local shared = first + ARGV[at + 3]
  at = shared + 1 + 2 * ARGV[shared]
  if redis.call('SISMEMBER', P .. 'c:' .. source, consumer) == 1 then
    for from = first, shared - 1, 1000 do
      local to = math.min(from + 999, shared - 1)
      if verdict == 'ack' then
        redis.call('XACK', P .. source, GROUP, unpack(ARGV, from, to))
        redis.call('XDEL', P .. source, unpack(ARGV, from, to))
      else
        give_back(source, { unpack(ARGV, from, to) })
      end
    end
    for i = shared + 1, at - 1, 2 do
      if verdict == 'ack' then
        ack_shared(source, ARGV[i], ARGV[i + 1])
      else
        give_back(source, { ARGV[i] })
      end
    end
    if verdict == 'requeue' then
      notify(source, '')
    end
  end
end
