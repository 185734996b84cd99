-- Publishes batches, each whole or not at all.
-- ARGV: version of `wild`, then each batch: count of its messages, these: count of its field
-- arguments, these, its attributes, its origin if that is not its target, the head of its payload
-- for live subscribers, count of its targets, these: `q:NAME` or `t:TOPIC`, count and names of the
-- durable subscriptions with a wildcard that matches.
-- Gives -1 where `wild` has changed, or for every batch 0, the target that is not declared, or what
-- the server said.
local P, ARGV, tonumber = KEYS[1], ARGV, tonumber
local call, pcall = redis.call, redis.pcall
-- A body of so many octets is stored once for all that it goes to, if that saves enough.
local SHARED = 1024
if (call('GET', P .. 'version') or '0') ~= ARGV[1] then
  return -1
end

-- Looks at a batch for what can be refused, before anything of it is written; gives that, or
-- nothing, and where the next one begins.
local function check(at)
  local missing
  local messages = tonumber(ARGV[at])
  at = at + 1
  for _ = 1, messages do
    at = at + ARGV[at] + 5
    for _ = 1, tonumber(ARGV[at - 1]) do
      local target = ARGV[at]
      if target:sub(1, 1) == 'q' and call('EXISTS', P .. 'm:' .. target) == 0 then
        missing = missing or target
      end
      at = at + 2 + ARGV[at + 1]
    end
  end
  return missing, at
end

-- Source -> the last message that was added to it, so that each comes once.
local added, number = {}, 0
local failure
-- Where a message goes, and for which of its targets.
local sources, targets = {}, {}
local function goes(source, target)
  if added[source] ~= number then
    added[source] = number
    sources[#sources + 1], targets[#sources + 1] = source, target
  end
end

-- Adds a message with its fields at first..last to where it goes; the last one is its body.
local function add(first, last, attributes, origin)
  local body, name = ARGV[last], 'mq'
  if #body >= SHARED and #body * (#sources - 1) >= 4 * SHARED then
    local id = call('INCR', P .. 'bodies')
    last, name, attributes = last - 2, 'mq-shared', id .. ' ' .. attributes
    call('HSET', P .. 'b:' .. id, 'body', body, 'entries', #sources)
  end
  for i, source in ipairs(sources) do
    local made = pcall('XADD', P .. source, '*', name,
      attributes .. ' ' .. (origin == '' and targets[i] or origin), unpack(ARGV, first, last))
    if type(made) == 'table' then
      failure = failure or made
    end
    if name ~= 'mq' then
      call('SADD', P .. 'sharing', source)
    end
  end
end

local function write(at)
  local messages = tonumber(ARGV[at])
  at = at + 1
  for _ = 1, messages do
    number, sources, targets = number + 1, {}, {}
    local first, last = at + 1, at + ARGV[at]
    local head, payload = ARGV[last + 3], nil
    at = last + 5
    for _ = 1, tonumber(ARGV[at - 1]) do
      local target, wild = ARGV[at], tonumber(ARGV[at + 1])
      if target:sub(1, 1) == 'q' then
        goes(target, target)
      else
        for _, name in ipairs(call('SMEMBERS', P .. 'x:' .. target:sub(3))) do
          goes('d:' .. name, target)
        end
        for i = at + 2, at + 1 + wild do
          goes('d:' .. ARGV[i], target)
        end
        payload = payload or head .. ARGV[last]
        call('PUBLISH', P .. target, payload)
      end
      at = at + 2 + wild
    end
    add(first, last, ARGV[last + 1], ARGV[last + 2])
  end
end

local outcomes, at = {}, 2
while at <= #ARGV do
  local missing, next = check(at)
  failure = nil
  if not missing then
    write(at)
  end
  outcomes[#outcomes + 1] = missing or failure or 0
  at = next
end
for source in pairs(added) do
  call('PUBLISH', P .. 'n:' .. source, '')
end
return outcomes
