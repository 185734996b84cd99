-- Publishes a batch whole or not at all.
-- ARGV: version of `wild`, then each message: count of its field arguments, these, its attributes,
-- its origin if that is not its target, the head of its payload for live subscribers, count of its
-- targets, these: `q:NAME` or `t:TOPIC`, count and names of the durable subscriptions with a
-- wildcard that matches.
-- Gives -1 where `wild` has changed, the target that is not declared, or 0.
local P = KEYS[1]
if (redis.call('GET', P .. 'version') or '0') ~= ARGV[1] then
  return -1
end

local messages = {}
local at = 2
while at <= #ARGV do
  local message = { first = at + 1, last = at + tonumber(ARGV[at]), sources = {}, topics = {} }
  at = message.last + 1
  message.attributes, message.origin, message.head = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local targets = tonumber(ARGV[at + 3])
  at = at + 4
  local seen = {}
  local function add(source, target)
    if not seen[source] then
      seen[source] = true
      message.sources[#message.sources + 1] = { source, target }
    end
  end
  for _ = 1, targets do
    local target, wild = ARGV[at], tonumber(ARGV[at + 1])
    if target:sub(1, 1) == 'q' then
      if redis.call('EXISTS', P .. 'm:' .. target) == 0 then
        return target
      end
      add(target, target)
    else
      message.topics[#message.topics + 1] = target
      for _, name in ipairs(redis.call('SMEMBERS', P .. 'x:' .. target:sub(3))) do
        add('d:' .. name, target)
      end
      for i = at + 2, at + 1 + wild do
        add('d:' .. ARGV[i], target)
      end
    end
    at = at + 2 + wild
  end
  messages[#messages + 1] = message
end

local touched = {}
for _, message in ipairs(messages) do
  for _, to in ipairs(message.sources) do
    local origin = message.origin ~= '' and message.origin or to[2]
    redis.call('XADD', P .. to[1], '*', 'mq', message.attributes .. ' ' .. origin,
      unpack(ARGV, message.first, message.last))
    touched[to[1]] = true
  end
  if #message.topics > 0 then
    local payload = message.head .. ARGV[message.last]
    for _, topic in ipairs(message.topics) do
      redis.call('PUBLISH', P .. topic, payload)
    end
  end
end
for source in pairs(touched) do
  redis.call('PUBLISH', P .. 'n:' .. source, '')
end
return 0
