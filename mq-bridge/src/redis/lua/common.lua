-- Every key and channel begins with the prefix in KEYS[1], whose hash tag keeps them in one slot:
--   q:NAME, d:NAME      a queue's or durable subscription's stream ("source" below)
--   m:SOURCE            hash: max, dead, generation, patterns; exists while the source is declared
--   c:SOURCE            set: its consumers, named SESSION.INBOX
--   x:TOPIC             set: durable subscriptions with a pattern that is this topic
--   b:NUMBER            hash: body, entries; a body that several entries share, and how many do
--   bodies              the last such number
--   sharing             set: sources with entries that share a body
--   trash               set: streams of sources that were deleted, named T:NUMBER
--   wild                hash: durable subscription -> its patterns with wildcards
--   version, log        how often `wild` has changed, and its last changes
--   sessions            set: connected links
--   lease:SESSION       expires when the link does not renew it
--   s:SESSION           set: its consumers, as SESSION.INBOX LF SOURCE
--   n:SOURCE (channel)  notices to those who consume the source: an empty one, to look for messages;
--                       `d` or `o` and names of consumers that have ended, as it was deleted or
--                       others took over; `s`, max, LF and dead as they are now
--   t:TOPIC (channel)   what is published to the topic
local P = KEYS[1]
-- The one group of every stream, and the consumer that holds what has been given back. Its entries
-- are the oldest, so they are read first, and Redis keeps them in order.
local GROUP, RETURNED = 'mq', '-'

local function declared(source)
  return redis.call('EXISTS', P .. 'm:' .. source) == 1
end

-- Makes the stream and its group where they are missing. A stream that another program has made is
-- taken as it is. Gives what went wrong.
local function make_stream(source)
  local made = redis.pcall('XGROUP', 'CREATE', P .. source, GROUP, '0', 'MKSTREAM')
  return made.err and not made.err:find('BUSYGROUP', 1, true) and made
end

local function notify(source, notice)
  redis.call('PUBLISH', P .. 'n:' .. source, notice)
end

-- Gives back entries without counting a delivery.
local function give_back(source, ids)
  ids[#ids + 1] = 'JUSTID'
  redis.call('XCLAIM', P .. source, GROUP, RETURNED, 0, unpack(ids))
end

-- Ends a consumer; what it holds goes back.
local function remove(source, consumer)
  redis.call('SREM', P .. 's:' .. consumer:match('^[^.]*'), consumer .. '\n' .. source)
  if redis.call('SREM', P .. 'c:' .. source, consumer) == 0 or not declared(source) then
    return
  end
  while true do
    local held = redis.call('XPENDING', P .. source, GROUP, '-', '+', 1000, consumer)
    if #held == 0 then
      break
    end
    local ids = {}
    for i, entry in ipairs(held) do
      ids[i] = entry[1]
    end
    give_back(source, ids)
  end
  redis.call('XGROUP', 'DELCONSUMER', P .. source, GROUP, consumer)
end

-- Forgets one of the entries that share a body.
local function unshare(number)
  if redis.call('HINCRBY', P .. 'b:' .. number, 'entries', -1) <= 0 then
    redis.call('UNLINK', P .. 'b:' .. number)
  end
end
