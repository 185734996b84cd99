-- Reads for a consumer: what has been given back first.
-- ARGV: source, consumer, its generation, most entries, octets after which no more are read.
-- Gives the entries, each with the number of its shared body; how often those were delivered that
-- had been given back (they come first); whether all was read; how many are gone because somebody
-- removed their body. Or says why the consumer is none any more.
local source, consumer = ARGV[1], ARGV[2]
local most, octets = tonumber(ARGV[4]), tonumber(ARGV[5])
if redis.call('SISMEMBER', P .. 'c:' .. source, consumer) == 0 then
  local generation = redis.call('HGET', P .. 'm:' .. source, 'generation')
  if not generation then
    return 'deleted'
  end
  return generation ~= ARGV[3] and 'taken over' or 'lost'
end

local entries, counts, read, gone = {}, {}, 0, 0
-- How many to read next: a few at first, then as many as seem to fit.
local function step()
  local fitting = read == 0 and 8 or math.floor((octets - read) * #entries / read)
  return math.min(most - #entries, math.max(1, fitting), 1000)
end
-- Puts the body that an entry shares in its place; gives whether there is one.
local function resolve(entry)
  local fields = entry[2]
  local number, attributes = fields[2]:match('^(%d+) (.*)$')
  local body = number and redis.call('HGET', P .. 'b:' .. number, 'body')
  if not body then
    redis.call('XACK', P .. source, GROUP, entry[1])
    redis.call('XDEL', P .. source, entry[1])
    gone = gone + 1
    return false
  end
  fields[1], fields[2] = 'mq', attributes
  fields[#fields + 1] = 'body'
  fields[#fields + 1] = body
  entry[3] = number
  return true
end

local function take(some, count)
  for _, entry in ipairs(some) do
    if entry[2][1] ~= 'mq-shared' or resolve(entry) then
      entries[#entries + 1] = entry
      if count then
        counts[#counts + 1] = count[entry[1]]
      end
      for _, text in ipairs(entry[2]) do
        read = read + #text
      end
      read = read + 64
    end
  end
end

while #entries < most and read < octets do
  local want = step()
  local held = redis.call('XPENDING', P .. source, GROUP, '-', '+', want, RETURNED)
  local ids = {}
  for i, entry in ipairs(held) do
    ids[i] = entry[1]
  end
  if #ids > 0 then
    local claimed = redis.call('XCLAIM', P .. source, GROUP, consumer, 0, unpack(ids))
    -- Entries that somebody removed from the stream are not claimed.
    local count = {}
    for _, entry in ipairs(held) do
      count[entry[1]] = entry[4] + 1
    end
    take(claimed, count)
  end
  if #ids < want then
    break
  end
end
local all = 0
while #entries < most and read < octets do
  local want = step()
  local streams =
    redis.call('XREADGROUP', 'GROUP', GROUP, consumer, 'COUNT', want, 'STREAMS', P .. source, '>')
  local some = streams and streams[1][2] or {}
  take(some)
  if #some < want then
    all = 1
    break
  end
end
return { entries, counts, all, gone }
